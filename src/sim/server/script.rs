//! A script of faults and timed events: from a file, a line each.
//!
//! ```text
//! # The answers to the second and the third GetEvents break off after 100 bytes.
//! on GetEvents nth=2 times=2 cut byte=100 how=reset
//! # Every request of any operation of one user:
//! on * user=ada@example.test times=always status code=503 retry-after=30
//! # The third envelope of the next stream is broken XML.
//! on GetStreamingEvents envelope=3 bad-xml
//! # Five seconds after the start:
//! at 5s cut-streams how=fin
//! # The same as JSON:
//! {"at": "5s", "do": "cut-streams", "how": "fin"}
//! ```
//!
//! `on` says for which operation (`*`: any), `at` how long after the start. Then come the name of an [`Action`] (with `on`)
//! or a [`Control`] (with `at`) in lower case with hyphens, and its fields. `user`, `host`, `nth`, `times` and `envelope` are as in
//! [`Fault`]. A value with blanks stands in double quotes. In JSON the name stands in `do`, and that
//! word may stand before it in text too.

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::fault::{Action, Cut, Fault};
use crate::{Error, ErrorKind, Result};

/// Faults, and what happens when.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Script {
    /// The faults, in the order in which they are asked.
    pub faults: Vec<Fault>,
    /// What happens by the clock.
    pub schedule: Vec<At>,
}

/// Something that happens by the clock.
#[derive(Clone, Debug, PartialEq)]
pub struct At {
    /// How long after the server's start.
    pub after: Duration,
    /// What.
    pub control: Control,
}

/// What can be done to a running server.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Control {
    /// As [`Sim::cut_streams`](super::Sim::cut_streams).
    CutStreams {
        /// How.
        #[serde(default)]
        how: Cut,
    },
    /// As [`Sim::cut_connections`](super::Sim::cut_connections).
    CutConnections {
        /// How.
        #[serde(default)]
        how: Cut,
    },
    /// As [`Sim::stall_streams`](super::Sim::stall_streams).
    StallStreams,
    /// As [`Sim::resume`](super::Sim::resume).
    Resume,
    /// Cuts all connections and lets the exchange forget all subscriptions, as a restart of the server does.
    Restart {
        /// How the connections end.
        #[serde(default)]
        how: Cut,
    },
    /// The exchange forgets this user's subscriptions; a stream says so.
    LoseSubscriptions {
        /// The mailbox's address.
        user: String,
    },
    /// This user's subscriptions answer and never hear of anything again.
    SilentDeath {
        /// The mailbox's address.
        user: String,
    },
    /// As [`Exchange::forget_states`](crate::sim::exchange::Exchange::forget_states).
    ForgetStates {
        /// The mailbox's address.
        user: String,
        /// One folder only, by well-known name, path or id.
        #[serde(default)]
        folder: Option<String>,
    },
    /// As [`Exchange::refuse_sync`](crate::sim::exchange::Exchange::refuse_sync).
    RefuseSync {
        /// The mailbox's address.
        user: String,
        /// The response code; without it, sync is allowed again.
        #[serde(default)]
        code: Option<String>,
    },
    /// As [`Sim::refuse_connections`](super::Sim::refuse_connections) with `true`.
    Refuse,
    /// As [`Sim::refuse_connections`](super::Sim::refuse_connections) with `false`.
    Accept,
}

impl Script {
    /// Reads a script; an error names the line.
    pub fn parse(text: &str) -> Result<Script> {
        let mut script = Script::default();
        for (i, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let words = if line.starts_with('{') {
                serde_json::from_str(line).map_err(|e| format!("no JSON object: {e}"))
            } else {
                words(line)
            };
            words.and_then(|words| script.add(words)).map_err(|why| {
                Error::new(ErrorKind::Invalid, format!("line {} of the script, \"{line}\": {why}", i + 1))
            })?;
        }
        Ok(script)
    }

    fn add(&mut self, mut words: Map<String, Value>) -> Result<(), String> {
        let Some(Value::String(what)) = words.remove("do") else {
            return Err("it does not say what is to happen".to_owned());
        };
        match (words.remove("on"), words.remove("at")) {
            (Some(on), None) => {
                let mut fault = Fault::new(Action::Empty);
                fault.operation = Some(read::<String>("on", on)?).filter(|o| o != "*");
                fault.user = take(&mut words, "user")?;
                fault.host = take(&mut words, "host")?;
                fault.nth = take(&mut words, "nth")?.unwrap_or(1);
                fault.envelope = take(&mut words, "envelope")?.unwrap_or(1);
                fault.times = match words.remove("times") {
                    Some(Value::String(s)) if s == "always" => u32::MAX,
                    Some(n) => read("times", n)?,
                    None => 1,
                };
                fault.action = variant(what, words)?;
                self.faults.push(fault);
            }
            (None, Some(at)) => {
                let at = read::<String>("at", at)?;
                let after =
                    humantime::parse_duration(&at).map_err(|e| format!("\"{at}\" is no duration: {e}"))?;
                self.schedule.push(At { after, control: variant(what, words)? });
            }
            _ => return Err("it must begin with either \"on OPERATION\" or \"at DURATION\"".to_owned()),
        }
        Ok(())
    }
}

fn take<T: DeserializeOwned>(words: &mut Map<String, Value>, key: &str) -> Result<Option<T>, String> {
    words.remove(key).map(|v| read(key, v)).transpose()
}

fn read<T: DeserializeOwned>(key: &str, value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|e| format!("{key}: {e}"))
}

// A variant by its name, with or without fields.
fn variant<T: DeserializeOwned>(name: String, fields: Map<String, Value>) -> Result<T, String> {
    if fields.is_empty()
        && let Ok(bare) = serde_json::from_value(Value::String(name.clone()))
    {
        return Ok(bare);
    }
    let value = Value::Object([(name.clone(), Value::Object(fields))].into_iter().collect());
    read(&name, value)
}

// `on X a=1 Y b="2 3"` as an object.
fn words(line: &str) -> Result<Map<String, Value>, String> {
    let mut map = Map::new();
    let mut rest = line;
    while let Some(word) = next_word(&mut rest)? {
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            None if matches!(word.as_str(), "on" | "at" | "do") => {
                let value = next_word(&mut rest)?.ok_or_else(|| format!("nothing comes after \"{word}\""))?;
                (word, value)
            }
            None => ("do".to_owned(), word),
        };
        let value = match value.parse::<u64>() {
            Ok(n) => n.into(),
            Err(_) => Value::String(value),
        };
        if let Some(before) = map.get(&key) {
            return Err(match key.as_str() {
                "do" => format!("it says both {before} and {value}"),
                _ => format!("\"{key}\" is there twice"),
            });
        }
        map.insert(key, value);
    }
    Ok(map)
}

// Up to the next blank outside of quotes; quotes are taken off.
fn next_word(rest: &mut &str) -> Result<Option<String>, String> {
    let text = rest.trim_start();
    let (mut word, mut quoted, mut end) = (String::new(), false, text.len());
    for (i, c) in text.char_indices() {
        if c == '"' {
            quoted = !quoted;
        } else if c.is_whitespace() && !quoted {
            end = i;
            break;
        } else {
            word.push(c);
        }
    }
    if quoted {
        return Err("a quote is not closed".to_owned());
    }
    *rest = &text[end..];
    Ok((end > 0).then_some(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    // A script that is read otherwise than written tests the wrong thing.
    #[test]
    fn lines() {
        let script = Script::parse(
            "# c\n\n on GetEvents nth=2 times=2 cut byte=100 how=reset\n\
             on * user=ada@example.test times=always status code=503 retry-date=\"1m 30s\" body=\"<b>no</b>\"\n\
             on GetStreamingEvents envelope=3 do bad-xml\n\
             {\"on\": \"*\", \"do\": \"slow-head\", \"delay\": \"20ms\"}\n\
             on SyncFolderItems host=mail.example.test refuse code=ErrorX\nat 1s resume\nat 5s cut-streams\n\
             at 6s forget-states user=a folder=Inbox/Bills\nat 7s refuse-sync user=a\n",
        )
        .unwrap();
        let status = Action::Status {
            code: 503,
            retry_after: None,
            retry_date: Some(Duration::from_secs(90)),
            body: Some("<b>no</b>".to_owned()),
        };
        assert_eq!(
            script.faults,
            [
                Fault::new(Action::Cut { byte: 100, how: Cut::Reset }).on("GetEvents").nth(2).times(2),
                Fault::new(status).user("ada@example.test").always(),
                Fault::new(Action::BadXml).on("GetStreamingEvents").envelope(3),
                Fault::new(Action::SlowHead { delay: Duration::from_millis(20) }),
                Fault::new(Action::Refuse { code: "ErrorX".to_owned(), back_off: None })
                    .on("SyncFolderItems")
                    .host("mail.example.test"),
            ]
        );
        let at = |s, control| At { after: Duration::from_secs(s), control };
        let (user, folder) = ("a".to_owned(), Some("Inbox/Bills".to_owned()));
        assert_eq!(
            script.schedule,
            [
                at(1, Control::Resume),
                at(5, Control::CutStreams { how: Cut::Fin }),
                at(6, Control::ForgetStates { user: user.clone(), folder }),
                at(7, Control::RefuseSync { user, code: None }),
            ]
        );
    }

    // A mistyped script must say where and what, not do something else.
    #[test]
    fn mistakes_are_named() {
        for (line, names) in [
            ("on GetEvents cutt byte=1", "cut"),
            ("on GetEvents cut bite=1", "byte"),
            ("on GetEvents cut", "byte"),
            ("on GetEvents html x=1", "html"),
            ("on GetEvents html empty", "both \"html\" and \"empty\""),
            ("on GetEvents status code=many", "code"),
            ("on GetEvents nth=x html", "nth"),
            ("on GetEvents", "what is to happen"),
            ("on", "nothing comes after"),
            ("html", "on OPERATION"),
            ("on GetEvents at 5s html", "either"),
            ("at soon resume", "soon"),
            ("on GetEvents on GetEvents html", "twice"),
            ("on GetEvents status code=1 body=\"x", "quote"),
            ("{\"on\": 1}", "what is to happen"),
            ("{\"on\": 1, \"do\": \"html\"}", "on: "),
            ("{", "JSON"),
        ] {
            let error = Script::parse(&format!("\n{line}")).unwrap_err();
            let text = error.to_string();
            assert!(text.starts_with("line 2 ") && text.contains(names), "{line}: {text}");
        }
    }
}
