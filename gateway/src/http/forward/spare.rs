//! A request that may have to be said again.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Uri};

use crate::message::{Body, Request};

/// Method, target, fields and a body that is here, by reference: without the cost of a second header map.
#[derive(Debug)]
pub(crate) struct Spare {
    method: Method,
    uri: Uri,
    fields: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

impl Spare {
    /// None where a part of the request is still to come.
    pub(crate) fn of(request: &Request) -> Option<Self> {
        let body = match request.body() {
            Body::Empty => Bytes::new(),
            Body::Full(bytes) => bytes.clone(),
            Body::Stream(_) | Body::Tunnel(_) => return None,
        };
        let fields = request.headers().iter();
        Some(Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            fields: fields
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            body,
        })
    }

    pub(crate) fn into_request(self) -> Request {
        let mut request = Request::new(Body::from(self.body));
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        let headers = request.headers_mut();
        headers.reserve(self.fields.len());
        for (name, value) in self.fields {
            headers.append(name, value);
        }
        request
    }
}
