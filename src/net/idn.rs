//! Names with letters beyond ASCII: from what people write to what DNS and certificates have (`xn--`, RFC 5891 and 3492).
//!
//! Only for letters that need no table of Unicode's: what is left of them in lower case stands for itself. The crate `idna`, which
//! has the tables, is twenty crates and a quarter of a megabyte; whose letters are not among these gives the name as `xn--`.

/// A name in ASCII; `None` where a letter is not among those that stand for themselves.
pub(super) fn to_ascii(name: &str) -> Option<String> {
    let mut labels = Vec::new();
    for label in name.split(['.', '\u{3002}']) {
        let label: Vec<char> = label.chars().flat_map(char::to_lowercase).collect();
        labels.push(match label.iter().all(char::is_ascii) {
            true => label.iter().collect(),
            false if label.iter().all(|c| c.is_ascii() || stands_for_itself(*c)) => {
                format!("xn--{}", punycode(&label)?)
            }
            false => return None,
        });
    }
    Some(labels.join("."))
}

/// Letters in lower case that RFC 5892 allows, and that neither composing nor folding changes.
fn stands_for_itself(c: char) -> bool {
    match c {
        // Latin, but for the ligature, the letters with a dot or apostrophe of their own, and the long s.
        '\u{df}'..='\u{f6}' | '\u{f8}'..='\u{17f}' => {
            !matches!(c, '\u{133}' | '\u{140}' | '\u{149}' | '\u{17f}')
        }
        // Greek and Cyrillic.
        '\u{3ac}'..='\u{3ce}' | '\u{430}'..='\u{45f}' => true,
        // Hiragana, Katakana, Chinese, Hangul.
        '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}' | '\u{30fc}' => true,
        '\u{4e00}'..='\u{9fa5}' | '\u{ac00}'..='\u{d7a3}' => true,
        _ => false,
    }
}

/// RFC 3492, 6.3, with the parameters of its section 5. A label that DNS would not take anyway has none.
fn punycode(label: &[char]) -> Option<String> {
    const BASE: u32 = 36;
    const DIGITS: &[u8; BASE as usize] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    if label.len() > 63 {
        return None;
    }
    let mut out: String = label.iter().filter(|c| c.is_ascii()).collect();
    let basic = out.len() as u32;
    if basic > 0 {
        out.push('-');
    }
    // With 63 letters at the most, none of these sums comes near its end.
    let (mut least, mut delta, mut bias, mut done) = (0x80_u32, 0_u32, 72_u32, basic);
    while done < label.len() as u32 {
        let next = label.iter().map(|c| *c as u32).filter(|c| *c >= least).min()?;
        delta += (next - least) * (done + 1);
        least = next;
        for c in label.iter().map(|c| *c as u32) {
            if c < least {
                delta += 1;
            }
            if c != least {
                continue;
            }
            let (mut rest, mut at) = (delta, BASE);
            loop {
                let threshold = at.saturating_sub(bias).clamp(1, 26);
                if rest < threshold {
                    break;
                }
                let (more, range) = (rest - threshold, BASE - threshold);
                out.push(DIGITS[(threshold + more % range) as usize] as char);
                rest = more / range;
                at += BASE;
            }
            out.push(DIGITS[rest as usize] as char);
            bias = adapt(delta, done + 1, done == basic);
            delta = 0;
            done += 1;
        }
        delta += 1;
        least += 1;
    }
    Some(out)
}

/// RFC 3492, 6.1.
fn adapt(delta: u32, points: u32, first: bool) -> u32 {
    let mut delta = if first { delta / 700 } else { delta / 2 };
    delta += delta / points;
    let mut k = 0;
    while delta > 35 * 26 / 2 {
        delta /= 35;
        k += 36;
    }
    k + 36 * delta / (delta + 38)
}

#[cfg(test)]
mod tests {
    use super::*;

    // A letter encoded wrong is another host. RFC 3492, 7.1 (B, I), and what Python says of the rest.
    #[test]
    fn names_as_registries_have_them() {
        for (given, ascii) in [
            ("M\u{fc}nchen.Example", "xn--mnchen-3ya.example"),
            ("\u{d6}sterreich.\u{fc}.test", "xn--sterreich-z7a.xn--tda.test"),
            ("mail.stra\u{df}e.test", "mail.xn--strae-oqa.test"),
            ("他们为什么不说中文.test", "xn--ihqwcrb4cv8a8dqg056pqjye.test"),
            ("почемужеонинеговорятпорусски", "xn--b1abfaaepdrnnbgefbadotcwatmq2g4l"),
            ("ΠΑΡΆΔΕΙΓΜΑ.test", "xn--hxajbheg2az3al.test"),
            ("日本語。test", "xn--wgv71a119e.test"),
            ("한국어.test", "xn--3e0bk47br7k.test"),
            ("ASCII.only-1", "ascii.only-1"),
        ] {
            assert_eq!(to_ascii(given).as_deref(), Some(ascii), "{given}");
        }
    }

    // Taken for itself, a letter that registries write otherwise leads to nobody, or to somebody else.
    #[test]
    fn letters_that_need_a_table_are_refused() {
        for name in [
            "ﬁ.test",
            "ｅxample.test",
            "mu\u{308}nchen.test",
            "مثال.test",
            "a\u{200d}.test",
            "x².test",
            "İ.test",
            "☃.test",
        ] {
            assert_eq!(to_ascii(name), None, "{name}");
        }
        assert_eq!(to_ascii(&"ü".repeat(64)), None);
        assert!(to_ascii(&"힣".repeat(63)).is_some());
    }
}
