//! Just enough HTTP/1 to look at messages from outside: strict where framing is concerned, so that
//! a message that this reader takes apart has exactly one meaning.

/// One message as it stood on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The first line, without its end.
    pub start: String,
    /// Header fields in their order, names as sent.
    pub headers: Vec<(String, String)>,
    /// The body after its framing was taken off.
    pub body: Vec<u8>,
    /// Trailer fields.
    pub trailers: Vec<(String, String)>,
    /// Every byte of it.
    pub raw: Vec<u8>,
}

/// Why bytes are no complete message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfinished {
    /// More bytes are needed.
    More,
    /// They can never become one.
    Broken(String),
}

/// How the body of a message is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    None,
    /// By its length.
    Length(usize),
    /// In chunks.
    Chunked,
    /// By the end of the connection.
    Close,
}

impl Message {
    /// The first value of a header, whatever the case of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// Every value of a header.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let name = name.to_ascii_lowercase();
        self.headers
            .iter()
            .filter(move |(key, _)| key.to_ascii_lowercase() == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The second word of the first line: target of a request, status of a response.
    pub fn second(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// The first word of the first line: method of a request.
    pub fn first(&self) -> &str {
        self.start.split(' ').next().unwrap_or_default()
    }
}

/// The head of a message: first line, fields, and where the body begins.
pub type Head = (String, Vec<(String, String)>, usize);

/// Takes the head off the front of `bytes`.
pub fn head(bytes: &[u8]) -> Result<Head, Unfinished> {
    let end = find(bytes, b"\r\n\r\n").ok_or(Unfinished::More)?;
    let text = std::str::from_utf8(&bytes[..end])
        .map_err(|_| Unfinished::Broken("the head is no UTF-8".to_owned()))?;
    let mut lines = text.split("\r\n");
    let start = lines.next().unwrap_or_default().to_owned();
    let mut headers = Vec::new();
    for line in lines {
        headers.push(field(line)?);
    }
    Ok((start, headers, end + 4))
}

fn field(line: &str) -> Result<(String, String), Unfinished> {
    let broken = || Unfinished::Broken(format!("no field: {line:?}"));
    let (name, value) = line.split_once(':').ok_or_else(broken)?;
    let clean = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    if !clean || value.bytes().any(|byte| byte < b' ' && byte != b'\t') {
        return Err(broken());
    }
    Ok((name.to_owned(), value.trim().to_owned()))
}

/// The framing that the fields of a message declare. Two framings, or one declared twice, are broken.
pub fn framing(headers: &[(String, String)], otherwise: Framing) -> Result<Framing, Unfinished> {
    let of = |wanted: &str| {
        let values = headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        values.map(|(_, value)| value.as_str()).collect::<Vec<_>>()
    };
    match (
        of("content-length").as_slice(),
        of("transfer-encoding").as_slice(),
    ) {
        ([], []) => Ok(otherwise),
        ([length], []) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
            let length = length.parse();
            length
                .map(Framing::Length)
                .map_err(|_| Unfinished::Broken("the length is no number".to_owned()))
        }
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
        (lengths, codings) => Err(Unfinished::Broken(format!(
            "more than one framing: lengths {lengths:?}, codings {codings:?}"
        ))),
    }
}

/// Takes one request off the front of `bytes`; gives it and how long it was.
pub fn request(bytes: &[u8]) -> Result<(Message, usize), Unfinished> {
    let (_, headers, _) = head(bytes)?;
    message(bytes, framing(&headers, Framing::None)?)
}

/// Takes one message with the given framing off the front of `bytes`. `Close` takes everything.
pub fn message(bytes: &[u8], framing: Framing) -> Result<(Message, usize), Unfinished> {
    let (start, headers, at) = head(bytes)?;
    let (body, trailers, end) = match framing {
        Framing::None => (Vec::new(), Vec::new(), at),
        Framing::Length(length) => {
            let body = bytes.get(at..at + length).ok_or(Unfinished::More)?;
            (body.to_vec(), Vec::new(), at + length)
        }
        Framing::Chunked => chunks(bytes, at)?,
        Framing::Close => (bytes[at..].to_vec(), Vec::new(), bytes.len()),
    };
    let raw = bytes[..end].to_vec();
    Ok((
        Message {
            start,
            headers,
            body,
            trailers,
            raw,
        },
        end,
    ))
}

type Chunks = (Vec<u8>, Vec<(String, String)>, usize);

fn chunks(bytes: &[u8], mut at: usize) -> Result<Chunks, Unfinished> {
    let mut body = Vec::new();
    loop {
        let (line, next) = line(bytes, at)?;
        at = next;
        let plain = !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_hexdigit());
        let size = usize::from_str_radix(&line, 16).ok().filter(|_| plain);
        let size = size.ok_or_else(|| Unfinished::Broken(format!("no chunk size: {line:?}")))?;
        if size == 0 {
            break;
        }
        body.extend_from_slice(bytes.get(at..at + size).ok_or(Unfinished::More)?);
        at += size;
        let end = bytes.get(at..at + 2).ok_or(Unfinished::More)?;
        if end != b"\r\n" {
            return Err(Unfinished::Broken(
                "a chunk does not end where it said".to_owned(),
            ));
        }
        at += 2;
    }
    let mut trailers = Vec::new();
    loop {
        let (line, next) = line(bytes, at)?;
        at = next;
        if line.is_empty() {
            return Ok((body, trailers, at));
        }
        trailers.push(field(&line)?);
    }
}

fn line(bytes: &[u8], at: usize) -> Result<(String, usize), Unfinished> {
    let rest = bytes.get(at..).ok_or(Unfinished::More)?;
    let end = find(rest, b"\r\n").ok_or(Unfinished::More)?;
    let line = String::from_utf8_lossy(&rest[..end]).into_owned();
    Ok((line, at + end + 2))
}

/// Where `needle` begins in `bytes`.
pub fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes
        .windows(needle.len())
        .position(|window| window == needle)
}

/// Takes `bytes` apart into complete requests; gives them and what is left over.
pub fn requests(bytes: &[u8]) -> (Vec<Message>, Vec<u8>) {
    let mut found = Vec::new();
    let mut at = 0;
    while let Ok((message, length)) = request(&bytes[at..]) {
        found.push(message);
        at += length;
    }
    (found, bytes[at..].to_vec())
}

/// The lines that the gateway adds to every request, by name.
const ADDED: [&str; 6] = [
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-real-ip",
    "x-request-id",
];

/// Takes the gateway's own lines off every head in `bytes`.
pub fn without_added(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let added = |line: &&str| {
        let name = line.split(':').next().unwrap_or_default();
        ADDED.contains(&name)
    };
    text.split_inclusive("\r\n")
        .filter(|line| !added(line))
        .collect()
}
