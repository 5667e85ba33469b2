//! The secrets that a client knows, to take them out of texts: a server may quote whatever it was sent.
//!
//! Looked for is each piece of [`PIECE`] bytes of a secret, as it is, escaped (per cent, XML, JSON), in base64 and in hex; of a message of
//! NTLM or Kerberos, which is sent in base64, its bytes as well. What is kept for that is one hash of each piece, keyed anew in each
//! client, and a weak pointer to the secret, with which a hit is followed to both its ends. So it costs the same however many secrets
//! there are, and holds no copy of one.

mod views;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::ops::Range;
use std::sync::{PoisonError, RwLock};

use base64::prelude::{BASE64_STANDARD, Engine};
use zeroize::Zeroizing;

use super::Secret;
use super::secret::Borrowed;
use crate::event::Event;
use crate::{Error, Result};
use views::View;

/// What is found of a secret: so many bytes of it, or more.
const PIECE: usize = 8;
/// Shorter secrets are not looked for: too many texts would have them by chance.
const SHORTEST: usize = 6;
/// Of longer ones, as tokens are, not every piece is remembered but each [`STEP`]th, so a part is found if it is their beginning or
/// has 15 bytes: a token of 2 KiB costs 4 KiB instead of 32.
const LONG: usize = 64;
const STEP: usize = 8;
/// The beginning of a secret, in base64 or hex that ends there, as where a text was cut.
const HEAD: usize = 4;
/// Words that our own texts have. To replace them would tell that they are the password, and make the texts hard to read.
const OURS: &str = "secret password Password exchange Exchange EXCHANGE mailbox Microsoft microsoft Autodiscover autodiscover \
                    notification negotiate Negotiate https:// localhost administrator Administrator /EWS/Exchange.asmx \
                    /autodiscover/autodiscover.svc /autodiscover/autodiscover.xml";
const STARS: &str = "***";

/// The secrets that a client knows. Texts that leave the client go through [`redact`](Self::redact).
///
/// A secret is known while somebody owns it or a clone of it, and for a while longer. Shorter ones than six bytes are not looked
/// for. May be used from any thread.
///
/// ```
/// use ewsnotify::auth::{Secret, Secrets};
///
/// let (secrets, password) = (Secrets::default(), Secret::new("open sesame"));
/// secrets.add(&password);
/// assert_eq!(secrets.redact("you sent b3BlbiBzZXNhbWU=, that is open sesame"), "you sent ***=, that is ***");
/// ```
#[derive(Default)]
pub struct Secrets(RwLock<Known>);

#[derive(Default)]
struct Known {
    key: RandomState,
    salt: u64,
    secrets: Vec<Form>,
    /// Those that nobody else owns.
    kept: Vec<Secret>,
    /// Where the piece with this hash is.
    pieces: HashMap<u64, Place, BuildHasherDefault<AsItIs>>,
    /// A bit for the pieces whose cheap hash it has: of most texts, no more is looked at.
    sieve: Vec<u64>,
    /// Pieces that are no secret, although a secret has them.
    public: HashSet<u64, BuildHasherDefault<AsItIs>>,
    /// Whether any is shorter than a piece.
    any_short: bool,
    /// How many secrets were alive when that was last looked at.
    alive: usize,
}

/// A secret, or the bytes that it is the base64 of.
struct Form {
    secret: Borrowed,
    unpacked: bool,
}

impl Form {
    fn lives(&self) -> bool {
        self.secret.strong_count() > 0
    }

    fn bytes(&self) -> Option<Zeroizing<Vec<u8>>> {
        let text = self.secret.upgrade()?;
        if self.unpacked { message(text.as_bytes()) } else { Some(Zeroizing::new(text.as_bytes().to_vec())) }
    }
}

#[derive(Clone, Copy)]
struct Place {
    secret: u32,
    at: u32,
}

impl Secrets {
    /// Looks for this secret too. Of a header's value, what follows the scheme's name counts.
    ///
    /// ```
    /// use ewsnotify::auth::{Secret, Secrets};
    ///
    /// let (secrets, token) = (Secrets::default(), Secret::new("Bearer eyJ0eXAiOiJKV1QifQ"));
    /// secrets.add(&token);
    /// assert_eq!(secrets.redact("Bearer eyJ0eXAiOiJKV1QifQ is too old"), "Bearer *** is too old");
    /// ```
    pub fn add(&self, secret: &Secret) {
        self.add_beside(secret, &[]);
    }

    /// The same, but for what these texts have too, such as the user's name: that is no secret.
    ///
    /// ```
    /// use ewsnotify::auth::{Secret, Secrets};
    ///
    /// let (secrets, password) = (Secrets::default(), Secret::new("ada.lovelace1815"));
    /// secrets.add_beside(&password, &["ada.lovelace@example.test"]);
    /// assert_eq!(secrets.redact("ada.lovelace with ada.lovelace1815"), "ada.lovelace with ***");
    /// ```
    pub fn add_beside(&self, secret: &Secret, public: &[&str]) {
        let text = secret.expose().as_bytes();
        if text.len() < SHORTEST || self.read().has(text) {
            return;
        }
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let public = public.iter().copied().chain([OURS]);
        for place in places(text, false) {
            let piece = &text[place.clone()];
            if place.len() > HEAD
                && public.clone().any(|p| memchr::memmem::find(p.as_bytes(), piece).is_some())
            {
                let hash = known.hash(piece);
                known.public.insert(hash);
            }
        }
        known.add(secret.borrow(), text);
    }

    /// The same for one that nobody else owns: it is known for good.
    pub(crate) fn keep(&self, secret: Secret, public: &[&str]) {
        if secret.expose().len() >= SHORTEST && !self.read().has(secret.expose().as_bytes()) {
            self.add_beside(&secret, public);
            self.0.write().unwrap_or_else(PoisonError::into_inner).kept.push(secret);
        }
    }

    /// The text with `***` for each secret in it.
    ///
    /// ```
    /// use ewsnotify::auth::{Secret, Secrets};
    ///
    /// let (secrets, password) = (Secrets::default(), Secret::new("a<b>&\"c\"?"));
    /// secrets.add(&password);
    /// assert_eq!(secrets.redact("p=a%3Cb%3E%26%22c%22%3F&u=ada"), "p=***&u=ada");
    /// assert_eq!(secrets.redact("<p>a&lt;b&gt;&amp;&quot;c&quot;?</p>"), "<p>***</p>");
    /// ```
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut found = self.find(text.as_bytes());
        if found.is_empty() {
            return Cow::Borrowed(text);
        }
        for range in &mut found {
            while !text.is_char_boundary(range.start) {
                range.start -= 1;
            }
            while !text.is_char_boundary(range.end) {
                range.end += 1;
            }
        }
        let (mut out, mut at) = (String::with_capacity(text.len()), 0);
        for range in merged(found) {
            out.push_str(&text[at..range.start]);
            out.push_str(STARS);
            at = range.end;
        }
        out.push_str(&text[at..]);
        Cow::Owned(out)
    }

    /// The same in place; what was there is wiped.
    pub(crate) fn clean(&self, text: &mut String) {
        if let Cow::Owned(clean) = self.redact(text) {
            drop(Zeroizing::new(std::mem::replace(text, clean)));
        }
    }

    /// The same for bytes whose number must stay: each letter becomes a star.
    pub(crate) fn blank(&self, bytes: &mut [u8]) {
        for range in self.find(bytes) {
            bytes[range].fill(b'*');
        }
    }

    /// An error fit to be shown.
    pub(crate) fn clean_error(&self, error: Error) -> Error {
        error.map_texts(|text| self.clean(text))
    }

    /// What comes of something, its error fit to be shown.
    pub(crate) fn clean_result<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|e| self.clean_error(e))
    }

    /// An event fit to be shown: what the library says in it. What a mail says is its own.
    pub(crate) fn clean_event(&self, event: &mut Event) {
        if let Some(detail) = &mut event.detail {
            detail.message.iter_mut().chain(&mut detail.code).for_each(|text| self.clean(text));
        }
    }

    /// Where secrets are in these bytes, in no order.
    fn find(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        let known = self.read();
        let mut found = Vec::new();
        if !known.pieces.is_empty() {
            views::each(bytes, &mut |view: &View<'_>| known.find(view, &mut found));
        }
        found
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// The word of the sieve, and the bit in it.
    fn bit(&self, piece: &[u8]) -> (usize, u64) {
        let mut word = [0; PIECE];
        word[..piece.len()].copy_from_slice(piece);
        let mixed = (u64::from_le_bytes(word) ^ self.salt).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 48;
        ((mixed >> 6) as usize, 1 << (mixed & 63))
    }

    fn hash(&self, piece: &[u8]) -> u64 {
        // A slice's hash has its length in it, so pieces of all lengths can lie in one table.
        self.key.hash_one(piece)
    }

    /// Whether each piece is known, and its secret alive.
    fn has(&self, text: &[u8]) -> bool {
        places(text, message(text).is_some()).all(|place| {
            let hash = self.hash(&text[place]);
            self.public.contains(&hash) || self.is_of_the_living(hash)
        })
    }

    fn is_of_the_living(&self, hash: u64) -> bool {
        self.pieces.get(&hash).is_some_and(|place| self.secrets[place.secret as usize].lives())
    }

    fn add(&mut self, secret: Borrowed, text: &[u8]) {
        if self.secrets.len() > 2 * self.alive + 64 {
            self.forget_the_dead();
        }
        if self.sieve.is_empty() {
            self.salt = self.key.hash_one(PIECE);
            self.sieve = vec![0; 1024];
        }
        let message = message(text);
        self.add_form(Form { secret: secret.clone(), unpacked: false }, text, message.is_some());
        if let Some(bytes) = message {
            self.add_form(Form { secret, unpacked: true }, &bytes, true);
        }
    }

    fn add_form(&mut self, form: Form, bytes: &[u8], of_message: bool) {
        let number = self.secrets.len() as u32;
        self.secrets.push(form);
        self.any_short |= bytes.len() < 2 * PIECE;
        for place in places(bytes, of_message) {
            let (hash, at) = (self.hash(&bytes[place.clone()]), place.start as u32);
            if !self.is_of_the_living(hash) && !self.public.contains(&hash) {
                self.pieces.insert(hash, Place { secret: number, at });
                let (word, bit) = self.bit(&bytes[place]);
                self.sieve[word] |= bit;
            }
        }
    }

    /// Tokens come and go for months.
    fn forget_the_dead(&mut self) {
        let before = std::mem::take(&mut self.secrets);
        self.pieces.clear();
        self.sieve.fill(0);
        self.alive = usize::MAX / 4;
        for Form { secret, .. } in before.into_iter().filter(|form| !form.unpacked) {
            if let Some(text) = secret.upgrade() {
                self.add(secret, text.as_bytes());
            }
        }
        self.alive = self.secrets.len();
    }

    fn find(&self, view: &View<'_>, found: &mut Vec<Range<usize>>) {
        let (bytes, mut at, mut from) = (view.bytes(), 0, 0);
        while at < bytes.len() {
            match self.here(bytes, at, from, view.is_packed()) {
                Some((range, next)) => {
                    (at, from) = (next, next);
                    found.push(view.origin(range));
                }
                None => at += 1,
            }
        }
    }

    /// The secret that has a piece here, and where to look on; what lies before `from` belongs to another.
    fn here(&self, bytes: &[u8], at: usize, from: usize, packed: bool) -> Option<(Range<usize>, usize)> {
        let whole = |range: Range<usize>| Some((range.clone(), range.end));
        let place = |n: usize| {
            let piece = bytes.get(at..at + n)?;
            let (word, bit) = self.bit(piece);
            if self.sieve[word] & bit == 0 {
                return None;
            }
            let place = self.pieces.get(&self.hash(piece))?;
            Some((*place, self.secrets[place.secret as usize].bytes()))
        };
        match place(PIECE) {
            // Nobody owns it any more, and it may be in a text that is late.
            Some((_, None)) => return Some((at..at + PIECE, at + 1)),
            Some((place, Some(secret))) => {
                let in_it = place.at as usize;
                let most = (in_it - begin(&secret)).min(at - from);
                let back = (1..=most).take_while(|n| bytes[at - n] == secret[in_it - n]).count();
                let on = common(&bytes[at..], &secret[in_it..]);
                // Less is a hash that is the same by chance.
                return whole(at - back..at + on).filter(|_| on >= PIECE);
            }
            None => {}
        }
        for n in (SHORTEST..PIECE).rev().filter(|_| self.any_short) {
            if place(n).is_some() {
                return whole(at..at + n);
            }
        }
        let (_, secret) = packed.then(|| place(HEAD))??;
        let on = common(&bytes[at..], &secret?);
        whole(at..at + on).filter(|_| on >= HEAD && at + on == bytes.len())
    }
}

fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

const MESSAGES: [&str; 2] = ["NTLM ", "Negotiate "];

/// Where it begins to be secret: the name of a scheme is none.
fn begin(secret: &[u8]) -> usize {
    let begin = ["Basic ", "Bearer "].iter().chain(&MESSAGES).find(|s| secret.starts_with(s.as_bytes()));
    let begin = begin.map_or(0, |s| s.len());
    if secret.len() - begin < SHORTEST { 0 } else { begin }
}

/// What a header with a message of NTLM or Kerberos stands for.
fn message(header: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let text = MESSAGES.iter().find_map(|s| header.strip_prefix(s.as_bytes()))?;
    BASE64_STANDARD.decode(text).ok().filter(|bytes| bytes.len() > PIECE).map(Zeroizing::new)
}

/// Where the pieces of a secret are that are looked for. Those of a message with less than two bytes that are not zero (A in base64) are
/// not: ids and watermarks have them too.
fn places(secret: &[u8], of_message: bool) -> impl Iterator<Item = Range<usize>> {
    let begin = begin(secret);
    let length = secret.len() - begin;
    let piece = length.min(PIECE);
    let step = if length > LONG { STEP } else { 1 };
    let last = secret.len() - piece;
    let pieces = (begin..last).step_by(step).chain([last]).map(move |at| at..at + piece);
    let pieces = pieces.chain(std::iter::once(begin..begin + HEAD));
    let zeros =
        move |place: &Range<usize>| secret[place.clone()].iter().filter(|b| matches!(b, 0 | b'A')).count();
    pieces.filter(move |place| !of_message || zeros(place) + 2 <= place.len())
}

/// In their order, those that touch made one.
fn merged(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.sort_by_key(|r| r.start);
    let mut out: Vec<Range<usize>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match out.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => out.push(range),
        }
    }
    out
}

/// What is hashed already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 << 8) | u64::from(*byte);
        }
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("known", &self.read().secrets.len()).finish()
    }
}

#[cfg(test)]
mod tests;
