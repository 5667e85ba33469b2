//! The pair of buffers that `ureq` works on, kept small: they exist only while bytes are in them. A stream that idles holds
//! none; one that gets a burst grows to [`MAX_INPUT`]. They are wiped: what comes may quote what was sent.

use ureq::unversioned::transport::Buffers;
use zeroize::Zeroizing;

/// The head of an answer must fit. Exchange's are about 1 KiB.
pub(super) const MAX_INPUT: usize = 16 * 1024;
const MIN_INPUT: usize = 4 * 1024;
/// Each line of a request's head must fit.
const OUTPUT: usize = 4 * 1024;

#[derive(Debug, Default)]
pub(super) struct Pair {
    input: Zeroizing<Vec<u8>>,
    /// The bytes not yet consumed are `input[start..end]`.
    start: usize,
    end: usize,
    output: Zeroizing<Vec<u8>>,
    /// Whether consuming went on: if not, more bytes must come before it makes sense to try again.
    progress: bool,
    /// The next input buffer's size.
    size: usize,
}

impl Pair {
    /// Gives memory back that has no bytes in it. To be called before a wait.
    pub fn rest(&mut self) {
        self.output = Zeroizing::default();
        if self.start == self.end {
            self.input = Zeroizing::default();
            (self.start, self.end) = (0, 0);
        }
    }

    /// The output as it is, so that it can be sent while the rest is borrowed.
    pub fn take_output(&mut self) -> Zeroizing<Vec<u8>> {
        std::mem::take(&mut self.output)
    }

    /// Puts it back for the next piece.
    pub fn give_output(&mut self, output: Zeroizing<Vec<u8>>) {
        self.output = output;
    }

    /// The input that is not consumed, to be changed.
    pub fn input_mut(&mut self) -> &mut [u8] {
        &mut self.input[self.start..self.end]
    }

    /// Whether no more input can be taken before some is consumed.
    pub fn is_full(&self) -> bool {
        self.end - self.start == MAX_INPUT
    }

    /// Makes room for input, by moving and growing as far as allowed.
    fn make_room(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.end == self.input.len() && self.start > 0 {
            self.input.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.input.len() {
            let size = (self.input.len() * 2).clamp(self.size.clamp(MIN_INPUT, MAX_INPUT), MAX_INPUT);
            // Not by growing, which leaves a copy behind that nobody wipes.
            let mut grown = Zeroizing::new(vec![0; size]);
            grown[..self.end].copy_from_slice(&self.input[..self.end]);
            self.input = grown;
        }
    }

    /// After bytes came: if they filled all room, more comes at once, most likely, and the next buffer may be larger.
    pub fn note_filling(&mut self) {
        let filled = self.end == self.input.len();
        self.size = if filled { (self.input.len() * 2).min(MAX_INPUT) } else { MIN_INPUT };
    }
}

impl Buffers for Pair {
    fn output(&mut self) -> &mut [u8] {
        self.output.resize(OUTPUT, 0);
        &mut self.output
    }

    fn input(&self) -> &[u8] {
        &self.input[self.start..self.end]
    }

    fn input_append_buf(&mut self) -> &mut [u8] {
        self.make_room();
        &mut self.input[self.end..]
    }

    fn input_appended(&mut self, amount: usize) {
        self.end = (self.end + amount).min(self.input.len());
    }

    fn input_consume(&mut self, amount: usize) {
        self.progress = amount > 0;
        self.start = (self.start + amount).min(self.end);
    }

    fn tmp_and_output(&mut self) -> (&mut [u8], &mut [u8]) {
        self.make_room();
        self.output.resize(OUTPUT, 0);
        (&mut self.input[self.end..], &mut self.output)
    }

    fn can_use_input(&self) -> bool {
        self.start < self.end && self.progress
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Bytes must come out as they went in, whatever the pieces, and the memory must stay within its bound.
    #[test]
    fn bytes_pass_through_in_order_and_memory_is_given_back() {
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut pair, mut sent, mut got) = (Pair::default(), 0u32, 0u32);
        for _ in 0..20_000 {
            if random.bool() && !pair.is_full() {
                let room = pair.input_append_buf();
                let n = random.usize(..=room.len());
                for b in &mut room[..n] {
                    *b = sent as u8;
                    sent = sent.wrapping_add(1);
                }
                pair.input_appended(n);
                pair.note_filling();
            } else {
                let n = random.usize(..=pair.input().len());
                for b in &pair.input()[..n] {
                    assert_eq!(*b, got as u8, "seed {seed}");
                    got = got.wrapping_add(1);
                }
                pair.input_consume(n);
                if random.bool() {
                    pair.rest();
                }
            }
            assert!(pair.input.capacity() <= MAX_INPUT, "seed {seed}");
        }
        let n = pair.input().len();
        pair.input_consume(n);
        pair.rest();
        assert_eq!((pair.input.capacity(), pair.output.capacity()), (0, 0));
    }

    // A head that does not fit must be noticed, not read for ever.
    #[test]
    fn a_full_buffer_says_so() {
        let mut pair = Pair::default();
        while !pair.is_full() {
            let n = pair.input_append_buf().len();
            pair.input_appended(n);
        }
        assert_eq!(pair.input().len(), MAX_INPUT);
    }
}
