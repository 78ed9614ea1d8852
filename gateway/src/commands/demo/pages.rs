//! What the parts of the demo's shop say.

use serde_json::{Value, json};

/// Facts about the book.
pub(super) fn details() -> String {
    let book = json!({
        "id": 0, "author": "William Shakespeare", "year": 1595, "type": "paperback", "pages": 200,
        "publisher": "PublisherA", "language": "English", "served_by": "details",
    });
    line(&book)
}

/// Stars by reviewer.
pub(super) fn ratings() -> String {
    line(&json!({ "id": 0, "ratings": { "Reviewer1": 5, "Reviewer2": 4 } }))
}

/// Reviews: v1 without stars, v2 with black ones, v3 with red ones.
pub(super) fn reviews(version: u8, ratings: Option<&str>) -> String {
    let ratings: Value = ratings
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let color = if version == 2 { "black" } else { "red" };
    let review = |reviewer: &str, text: &str| {
        let stars = ratings.pointer(&format!("/ratings/{reviewer}"));
        match stars {
            None => json!({ "reviewer": reviewer, "text": text }),
            Some(stars) => {
                json!({ "reviewer": reviewer, "text": text, "rating": { "stars": stars, "color": color } })
            }
        }
    };
    let all = [
        review(
            "Reviewer1",
            "An extremely entertaining play. The slapstick is refreshing!",
        ),
        review(
            "Reviewer2",
            "Absolutely fun and entertaining. The play lacks thematic depth.",
        ),
    ];
    line(&json!({ "id": 0, "served_by": format!("reviews v{version}"), "reviews": all }))
}

fn line(value: &Value) -> String {
    format!("{value}\n")
}

/// The page for a person.
pub(super) fn product(target: &str, details: &str, reviews: &str) -> String {
    let details: Value = serde_json::from_str(details).unwrap_or_default();
    let reviews: Value = serde_json::from_str(reviews).unwrap_or_default();
    let facts = match details.as_object() {
        None => "<p class=missing>The details do not answer.</p>".to_owned(),
        Some(facts) => {
            let row = |(name, value): (&String, &Value)| {
                format!("<tr><th>{}<td>{}", escape(name), escape(&plain(value)))
            };
            format!(
                "<table>{}</table>",
                facts.iter().map(row).collect::<String>()
            )
        }
    };
    let opinions = match reviews.pointer("/reviews").and_then(Value::as_array) {
        None => "<p class=missing>The reviews do not answer.</p>".to_owned(),
        Some(all) => all.iter().map(opinion).collect(),
    };
    let by = reviews.pointer("/served_by").map(plain).unwrap_or_default();
    PAGE.replace("{path}", &escape(target))
        .replace("{facts}", &facts)
        .replace("{by}", &escape(&by))
        .replace("{opinions}", &opinions)
}

fn opinion(review: &Value) -> String {
    let text = |path: &str| review.pointer(path).map(plain).unwrap_or_default();
    let stars = review
        .pointer("/rating/stars")
        .and_then(Value::as_u64)
        .unwrap_or_default();
    let stars = "★".repeat(usize::try_from(stars.min(5)).unwrap_or_default());
    let color = if text("/rating/color") == "red" {
        "#c22"
    } else {
        "#222"
    };
    format!(
        "<blockquote>{}<footer>{} <span style='color:{color}'>{stars}</span></footer></blockquote>",
        escape(&text("/text")),
        escape(&text("/reviewer")),
    )
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

const PAGE: &str = "<!doctype html>
<html lang=en><meta charset=utf-8><title>The Comedy of Errors</title>
<style>
body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:3rem auto;padding:0 1rem;color:#222}
h1{margin-bottom:0}.sub,footer,.missing{color:#777}table{border-spacing:0}th{text-align:left;padding-right:2rem}
blockquote{border-left:3px solid #6ab;margin:1rem 0;padding:.2rem 1rem}
</style>
<h1>The Comedy of Errors</h1>
<p class=sub>You asked for <code>{path}</code>; this page asked the gateway for the two parts below.</p>
<h2>Details</h2>{facts}
<h2>Reviews <small class=sub>{by}</small></h2>{opinions}
</html>
";
