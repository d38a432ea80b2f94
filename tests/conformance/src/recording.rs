//! Exchanges with a real Consul, written down once and put to the dev agent ever after: the questions of
//! `recorded/questions.txt`, and what came back. What is left out of an answer because it differs from run to run is
//! decided in `recording/lasting.rs`.

mod lasting;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::sleep;

use crate::http::Api;

/// The version whose answers are in the repository.
pub const RECORDED: &str = "1.8.7";

/// Characters of a question that name it: all of most, and enough to tell it from those with a long body.
const NAME: usize = 110;

/// A line of the questions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// Lets time pass.
    Wait(Duration),
    /// A request.
    Question(Question),
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// As it stands in the file, as far as one can read it at a glance.
    pub name: String,
    header: Option<(String, String)>,
    method: String,
    path: String,
    body: String,
}

/// What came back, as far as it lasts.
#[derive(Debug, Clone, PartialEq)]
pub struct Exchange {
    /// The question.
    pub name: String,
    /// Status, headers, and the body as JSON or text.
    pub answer: Value,
}

/// Where the recordings are.
pub fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("recorded")
}

/// The file with the answers.
pub fn answers_file() -> PathBuf {
    directory().join(format!("consul-{RECORDED}.json"))
}

/// The questions of the repository.
///
/// # Panics
/// When the file cannot be read or has a line that is no question.
pub fn questions() -> Vec<Line> {
    let path = directory().join("questions.txt");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| parse(line).unwrap_or_else(|| panic!("no question: {line}")))
        .collect()
}

fn parse(line: &str) -> Option<Line> {
    if let Some(millis) = line.strip_prefix("wait ") {
        let millis = millis.strip_suffix("ms")?.parse().ok()?;
        return Some(Line::Wait(Duration::from_millis(millis)));
    }
    let (header, rest) = match line.strip_prefix('@') {
        Some(line) => {
            let (header, rest) = line.split_once(' ')?;
            let (name, value) = header.split_once('=')?;
            (Some((name.to_owned(), value.replace("%20", " "))), rest)
        }
        None => (None, line),
    };
    let (method, rest) = rest.split_once(' ')?;
    let (path, body) = rest.split_once(' ').unwrap_or((rest, ""));
    let name = line.chars().take(NAME).collect();
    let (method, path, body) = (method.to_owned(), path.to_owned(), body.to_owned());
    Some(Line::Question(Question {
        name,
        header,
        method,
        path,
        body,
    }))
}

/// Asks an agent everything, in order. `node` is the name of its node.
///
/// # Panics
/// When it does not answer.
pub async fn ask_all(api: &Api, node: &str) -> Vec<Exchange> {
    let mut all = Vec::new();
    for line in questions() {
        match line {
            Line::Wait(span) => sleep(span).await,
            Line::Question(question) => all.push(ask(api, node, question).await),
        }
    }
    all
}

async fn ask(api: &Api, node: &str, question: Question) -> Exchange {
    let header = question.header.as_ref();
    let headers: Vec<(&str, &str)> = header
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .into_iter()
        .collect();
    let path = question.path.replace("{node}", node);
    let answer = api.plain(&question.method, &path, &headers, &question.body).await;
    let answer = answer.unwrap_or_else(|error| panic!("{}: {error}", question.name));
    let headers = answer
        .headers
        .iter()
        .filter_map(|(name, value)| lasting::header(name, value));
    let body = match serde_json::from_str::<Value>(&answer.text.replace(node, "{node}")) {
        Ok(body) if answer.text.starts_with(['{', '[', '"', 'n']) => lasting::body(body),
        _ => Value::String(answer.text.replace(node, "{node}")),
    };
    Exchange {
        name: question.name,
        answer: json!({
            "status": answer.status,
            "headers": Value::Object(headers.collect::<Map<String, Value>>()),
            "body": body,
        }),
    }
}

/// The exchanges as they are kept in the file.
pub fn to_json(exchanges: &[Exchange]) -> Value {
    let one = |exchange: &Exchange| json!({ "question": exchange.name, "answer": exchange.answer });
    exchanges.iter().map(one).collect()
}

/// The answers of the repository.
///
/// # Panics
/// When the file cannot be read.
pub fn recorded() -> Vec<Exchange> {
    let path = answers_file();
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let all: Vec<Value> = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let one = |value: Value| Exchange {
        name: value["question"].as_str().unwrap_or_default().to_owned(),
        answer: value["answer"].clone(),
    };
    all.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_pause_or_a_request() {
        assert_eq!(parse("wait 20ms"), Some(Line::Wait(Duration::from_millis(20))));
        let Some(Line::Question(asked)) = parse("@Authorization=Bearer%20x PUT /v1/a?b {\"c\": 1}") else {
            panic!()
        };
        assert_eq!(asked.name, "@Authorization=Bearer%20x PUT /v1/a?b {\"c\": 1}");
        assert_eq!(asked.header, Some(("Authorization".into(), "Bearer x".into())));
        assert_eq!(
            (asked.method.as_str(), asked.path.as_str(), asked.body.as_str()),
            ("PUT", "/v1/a?b", "{\"c\": 1}")
        );
        assert_eq!(parse("nothing"), None);
    }
}
