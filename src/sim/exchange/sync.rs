//! What a client of SyncFolderItems knows, and what it has to be told: a true difference.
//!
//! A state is self-contained. It is a row of spans of item numbers; of each the client knows every item as it was at
//! some change. What lies in no span is new to the client. A page tells new items first, newest first, then what changed
//! in the spans, oldest change first; so a state between two pages is exact too, whatever happens meanwhile: what came
//! and went unseen is never told, nothing is told twice, nothing is left out.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::ids::Guid;
use super::mailbox::Folder;

/// Items above `after`, up to and with `to`, known as of the change `known`. While a pass over many changes is under way,
/// `content` is where it began: an item whose content changed since then is told whole, even if its last change was only
/// the read flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    after: u64,
    to: u64,
    known: u64,
    content: u64,
}

/// What a client knows of a folder: spans in rising order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    spans: Vec<Span>,
}

/// One thing to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Difference {
    Create(u64),
    Update(u64),
    ReadFlag(u64),
    Delete(u64),
}

impl State {
    /// Tells up to `most` differences, moves the state on accordingly, and says whether that was all.
    pub(super) fn advance(&mut self, folder: &Folder, now: u64, most: usize) -> (Vec<Difference>, bool) {
        let mut told = Vec::new();
        // New items, newest first: the gaps between the spans, from above.
        while let Some((after, to)) = self.highest_gap(now) {
            let mut items = folder.items.range(after + 1..=to).rev().map(|(number, _)| *number);
            let page: Vec<u64> = items.by_ref().take(most - told.len()).collect();
            let rest = items.next().is_some();
            let down_to = match page.last() {
                Some(last) if rest => last - 1,
                _ if rest => to,
                _ => after,
            };
            told.extend(page.into_iter().map(Difference::Create));
            if down_to < to {
                self.insert(Span { after: down_to, to, known: now, content: now });
            }
            if rest {
                return (told, false);
            }
        }
        // Changes within the spans, each from what is known of it.
        for place in 0..self.spans.len() {
            let Span { after, to, known, content } = self.spans[place];
            let within = |item: u64| item > after && item <= to;
            // Both by rising change; no further than the page goes, since a page must not cost what all of them cost.
            let mut gone = folder.gone.range(known + 1..).peekable();
            let mut changed = folder.changes.range(known + 1..).peekable();
            loop {
                let is_gone = match (gone.peek(), changed.peek()) {
                    (None, None) => break,
                    (Some((one, _)), Some((other, _))) => one < other,
                    (one, _) => one.is_some(),
                };
                let next = if is_gone { gone.next() } else { changed.next() };
                let Some((&change, &item)) = next.filter(|(_, item)| within(**item)) else { continue };
                if told.len() == most {
                    return (told, false);
                }
                self.spans[place].known = change;
                told.push(match folder.items.get(&item) {
                    _ if is_gone => Difference::Delete(item),
                    Some(entry) if entry.changed <= content => Difference::ReadFlag(item),
                    _ => Difference::Update(item),
                });
            }
            (self.spans[place].known, self.spans[place].content) = (now, now);
        }
        // Everything is known as of now: one span is enough.
        self.spans = vec![Span { after: 0, to: now, known: now, content: now }];
        (told, true)
    }

    /// The state as the client carries it.
    pub(super) fn token(&self, of: Of) -> String {
        let numbers = self.spans.iter().flat_map(|s| [s.after, s.to, s.known, s.content]);
        seal(of, &numbers.collect::<Vec<u64>>())
    }

    /// Reads a token of this very folder and age.
    pub(super) fn parse(token: &str, of: Of, now: u64) -> Option<State> {
        let numbers = unseal(token, of)?;
        if numbers.len() % 4 != 0 {
            return None;
        }
        let spans: Vec<Span> = numbers
            .chunks_exact(4)
            .map(|n| Span { after: n[0], to: n[1], known: n[2], content: n[3] })
            .collect();
        let mut floor = 0;
        for span in &spans {
            if span.after < floor
                || span.to <= span.after
                || span.to > now
                || span.known > now
                || span.content > span.known
            {
                return None;
            }
            floor = span.to;
        }
        Some(State { spans })
    }

    fn highest_gap(&self, now: u64) -> Option<(u64, u64)> {
        let mut top = now;
        for span in self.spans.iter().rev() {
            if span.to < top {
                return Some((span.to, top));
            }
            top = span.after;
        }
        (top > 0).then_some((0, top))
    }

    fn insert(&mut self, span: Span) {
        let place = self.spans.partition_point(|s| s.to <= span.after);
        self.spans.insert(place, span);
        let mut merged: Vec<Span> = Vec::with_capacity(self.spans.len());
        for span in self.spans.drain(..) {
            match merged.last_mut() {
                Some(last)
                    if last.to == span.after && (last.known, last.content) == (span.known, span.content) =>
                {
                    last.to = span.to
                }
                _ => merged.push(span),
            }
        }
        self.spans = merged;
    }
}

/// What a token is of. One of another folder, or from before the server forgot, is no good.
#[derive(Clone, Copy, Debug)]
pub(super) struct Of {
    pub(super) kind: Kind,
    pub(super) mailbox: Guid,
    pub(super) folder: u64,
    /// How often the server has forgotten the states of this folder.
    pub(super) age: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Items,
    Hierarchy,
}

/// Numbers as a token.
pub(super) fn seal(of: Of, numbers: &[u64]) -> String {
    let mut bytes = head(of);
    bytes.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
    let sum = checksum(&bytes);
    bytes.extend_from_slice(&sum);
    BASE64.encode(bytes)
}

/// The numbers of a token.
pub(super) fn unseal(token: &str, of: Of) -> Option<Vec<u64>> {
    let bytes = BASE64.decode(token).ok()?;
    let (body, sum) = bytes.split_last_chunk::<8>()?;
    let rest = body.strip_prefix(head(of).as_slice())?;
    if *sum != checksum(body) || rest.len() % 8 != 0 {
        return None;
    }
    Some(rest.chunks_exact(8).filter_map(|n| Some(u64::from_le_bytes(n.try_into().ok()?))).collect())
}

fn head(of: Of) -> Vec<u8> {
    let mut bytes = match of.kind {
        Kind::Items => b"SIMI".to_vec(),
        Kind::Hierarchy => b"SIMH".to_vec(),
    };
    bytes.extend_from_slice(&of.mailbox);
    bytes.extend_from_slice(&of.folder.to_le_bytes());
    bytes.extend_from_slice(&of.age.to_le_bytes());
    bytes
}

fn checksum(bytes: &[u8]) -> [u8; 8] {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3))
        .to_le_bytes()
}
