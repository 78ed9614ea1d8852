//! A name server by hand on loopback: it says of a name what it was told to, and counts who asks.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use hickory_proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{RData, Record, RecordType, rdata::A},
};
use parking_lot::Mutex;
use sluice_gateway::drain::Tasks;
use tokio::net::UdpSocket;

/// What the name server says of a name.
#[derive(Debug, Clone)]
pub enum Answer {
    /// These, for so many seconds.
    Addresses(Vec<Ipv4Addr>, u32),
    /// Nothing is said to who asks for IPv6.
    OnlyIpv4(Vec<Ipv4Addr>),
    /// One after the other, each once; the last one stays.
    Turns(Vec<Ipv4Addr>),
    /// It does not exist.
    NoSuchName,
    /// Nothing is said.
    Silence,
}

/// A name server for A records. A name it was not told of does not exist.
#[derive(Debug)]
pub struct NameServer {
    address: SocketAddr,
    zone: Arc<Mutex<HashMap<String, Answer>>>,
    asked: Arc<AtomicUsize>,
    tasks: Tasks,
}

impl NameServer {
    /// Starts one that knows no name.
    pub async fn start() -> Self {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = socket.local_addr().expect("an address");
        let zone = Arc::<Mutex<HashMap<String, Answer>>>::default();
        let asked = Arc::<AtomicUsize>::default();
        let tasks = Tasks::new();
        let (known, count) = (Arc::clone(&zone), Arc::clone(&asked));
        tasks.spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
                let question = Message::from_vec(&buffer[..length]).expect("a question");
                if question.queries[0].query_type() == RecordType::A {
                    count.fetch_add(1, Ordering::SeqCst);
                }
                let answer = answer(&question, &mut known.lock());
                if let Some(bytes) = answer {
                    socket.send_to(&bytes, peer).await.expect("it is sent");
                }
            }
        });
        Self {
            address,
            zone,
            asked,
            tasks,
        }
    }

    /// From now on this is what `name` stands for.
    pub fn says(&self, name: &str, answer: Answer) {
        self.zone.lock().insert(format!("{name}."), answer);
    }

    /// How often somebody asked for an IPv4 address.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// `[dns]` that asks this server, often.
    pub fn config(&self) -> String {
        self.config_with("min_refresh = \"100ms\"\nmax_refresh = \"200ms\"\ntimeout = \"1s\"")
    }

    /// `[dns]` that asks this server, with these settings.
    pub fn config_with(&self, settings: &str) -> String {
        format!("[dns]\nservers = [\"{}\"]\n{settings}\n", self.address)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

fn answer(question: &Message, zone: &mut HashMap<String, Answer>) -> Option<Vec<u8>> {
    let query = &question.queries[0];
    let name = query.name();
    let is_ipv4 = query.query_type() == RecordType::A;
    let known = zone.get_mut(&name.to_string().to_ascii_lowercase());
    let mut message = question.clone();
    message.metadata.message_type = MessageType::Response;
    message.metadata.recursion_available = true;
    message.additionals.clear();
    message.edns = None;
    let known = match known {
        Some(Answer::Turns(turns)) if is_ipv4 => {
            let next = turns[0];
            if turns.len() > 1 {
                turns.remove(0);
            }
            Some(Answer::Addresses(vec![next], 0))
        }
        known => known.cloned(),
    };
    let known = match known {
        Some(Answer::OnlyIpv4(addresses)) if is_ipv4 => Answer::Addresses(addresses, 0),
        known => known.unwrap_or(Answer::NoSuchName),
    };
    match known {
        Answer::Silence | Answer::OnlyIpv4(_) => return None,
        Answer::NoSuchName => message.metadata.response_code = ResponseCode::NXDomain,
        Answer::Addresses(addresses, ttl) if is_ipv4 => {
            for address in addresses {
                let record = Record::from_rdata(name.clone(), ttl, RData::A(A(address)));
                message.answers.push(record);
            }
        }
        Answer::Addresses(..) | Answer::Turns(_) => {}
    }
    Some(message.to_vec().expect("it can be said"))
}
