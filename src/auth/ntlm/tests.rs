use base64::prelude::{BASE64_STANDARD, Engine};
use std::time::Instant;

use super::target_info::TargetInfo;
use super::*;
use crate::net::{Cancel, Endpoint};

/// The CHALLENGE message of [MS-NLMP] section 4.2.4.3.
const CHALLENGE: &str = "4e544c4d53535000020000000c000c003800000033828ae20123456789abcdef000000000000000024002400440000000600701700\
                         00000f53006500720076006500720002000c0044006f006d00610069006e0001000c0053006500720076006500720000000000";
const PASSWORD: &str = "Password";
const CLIENT_NONCE: [u8; 8] = [0xaa; 8];

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// In base64.
pub(in crate::auth) fn challenge() -> String {
    BASE64_STANDARD.encode(hex(CHALLENGE))
}

fn ntlm(user: &str) -> Ntlm {
    let fresh = || Ok(Fresh { now: SystemTime::UNIX_EPOCH, nonce: CLIENT_NONCE });
    Ntlm::new(user, Secret::new(PASSWORD), fresh).unwrap()
}

/// A challenge with this target info.
fn with_target_info(info: &[u8]) -> Vec<u8> {
    let mut message = hex(CHALLENGE)[..56].to_vec();
    let len = u16::try_from(info.len()).unwrap().to_le_bytes();
    message[12..20].fill(0);
    message[40..48].copy_from_slice(&[&len[..], &len, &56_u32.to_le_bytes()].concat());
    [message, info.to_vec()].concat()
}

/// The part that a field of an AUTHENTICATE message points at.
fn part(message: &[u8], field: usize) -> &[u8] {
    let at = |n| usize::from(message::u16_at(message, field + n).unwrap());
    &message[at(4)..][..at(0)]
}

// [MS-NLMP] section 4.2.4, version 2: whatever is computed otherwise, no server takes.
#[test]
fn the_specifications_example() {
    let key = compute::response_key(PASSWORD, "User", "Domain");
    assert_eq!(key[..], hex("0c868a403bfd7a93a3001ef22ef02e3f"));
    let bytes = hex(CHALLENGE);
    let challenge = Challenge::read(&bytes).unwrap();
    assert_eq!(challenge.nonce[..], hex("0123456789abcdef"));
    // The example sends the server's own pairs back, at time 0.
    let info = &bytes[0x44..];
    let client_part = compute::client_part(&[0; 8], &CLIENT_NONCE, info);
    let (response, session_key) = compute::response(&key, &challenge.nonce, &client_part);
    assert_eq!(response[..16], hex("68cd0ab851e51c96aabc927bebef6a1c"));
    assert_eq!(
        response[16..],
        hex("01010000000000000000000000000000aaaaaaaaaaaaaaaa0000000002000c0044006f006d00610069006e00\
             01000c005300650072007600650072000000000000000000")
    );
    assert_eq!(session_key[..], hex("8de40ccadbc14a82f15cb0ad0de95ca3"));
    // The example sends an LMv2 response, which is computed alike and which we do not send.
    let (lm, _) = compute::response(&key, &challenge.nonce, &CLIENT_NONCE);
    assert_eq!(lm[..], hex("86c35097ac9cec102554764a57cccc19aaaaaaaaaaaaaaaa"));
    let message = Authenticate {
        flags: 0xe288_8235,
        version: [5, 1, 0x28, 0x0a, 0, 0, 0, 15],
        domain: &compute::utf16("Domain"),
        user: &compute::utf16("User"),
        workstation: &compute::utf16("COMPUTER"),
        lm_response: &lm,
        nt_response: &response,
        session_key: &hex("c5dad2544fc9799094ce1ce90bc9d03e"),
        mic: false,
    };
    assert_eq!(
        message.write().unwrap()[..],
        hex(
            "4e544c4d5353500003000000180018006c00000054005400840000000c000c00480000000800080054000000100010005c000000\
             10001000d8000000358288e20501280a0000000f44006f006d00610069006e00550073006500720043004f004d00500055005400\
             4500520086c35097ac9cec102554764a57cccc19aaaaaaaaaaaaaaaa68cd0ab851e51c96aabc927bebef6a1c0101000000000000\
             0000000000000000aaaaaaaaaaaaaaaa0000000002000c0044006f006d00610069006e0001000c00530065007200760065007200\
             0000000000000000c5dad2544fc9799094ce1ce90bc9d03e"
        )
    );
}

// Extended Protection looks at each of these; without the MIC, who is in the middle could take them out.
#[test]
fn an_answer_has_the_channel_the_service_the_servers_time_and_a_mic() {
    let time = [1, 2, 3, 4, 5, 6, 7, 8];
    let mut info = vec![6, 0, 4, 0, 1, 0, 0, 0, 7, 0, 8, 0];
    info.extend_from_slice(&time);
    // What only we may say, said by the server.
    info.extend_from_slice(&[10, 0, 2, 0, 9, 9, 9, 0, 0, 0]);
    info.extend_from_slice(&[2, 0, 2, 0, b'D', 0, 0, 0, 0, 0]);
    let challenge = with_target_info(&info);
    let binding = [0x5a; 16];
    let message = ntlm("DOM\\Ada").answer(&challenge, "mail.example.test", &binding).unwrap();
    assert_eq!((part(&message, 28), part(&message, 36)), (&b"D\0O\0M\0"[..], &b"A\0d\0a\0"[..]));
    assert_eq!((part(&message, 12), part(&message, 44)), (&[0; 24][..], &b""[..]));
    let response = part(&message, 20);
    assert_eq!((&response[24..32], &response[32..40]), (&time[..], &CLIENT_NONCE[..]));
    let mut expected = [&[7, 0, 8, 0][..], &time, &[2, 0, 2, 0, b'D', 0], &[6, 0, 4, 0, 3, 0, 0, 0]].concat();
    expected.extend_from_slice(&[10, 0, 16, 0]);
    expected.extend_from_slice(&binding);
    let spn = compute::utf16("HTTP/mail.example.test");
    expected.extend_from_slice(&[9, 0, spn.len() as u8, 0]);
    expected.extend_from_slice(&spn);
    expected.extend_from_slice(&[0; 8]);
    assert_eq!(response[44..], expected);

    let key = compute::response_key(PASSWORD, "Ada", "DOM");
    let (again, session_key) =
        compute::response(&key, &hex("0123456789abcdef").try_into().unwrap(), &response[16..]);
    assert_eq!(response, &again[..]);
    let mut without = message.to_vec();
    without[72..88].fill(0);
    let mic = compute::mic(&session_key, [&message::negotiate(), &challenge, &without]);
    assert_eq!(message[72..88], mic[..]);
}

// A server that does not tell its time gets ours.
#[test]
fn the_time_is_that_of_windows() {
    let message = ntlm("ada").answer(&hex(CHALLENGE), "h", &[0; 16]).unwrap();
    // 1970, in 100 nanoseconds since 1601.
    assert_eq!(part(&message, 20)[24..32], 116_444_736_000_000_000_u64.to_le_bytes());
    let later = SystemTime::UNIX_EPOCH + Duration::from_millis(1);
    assert_eq!(filetime(later), 116_444_736_000_010_000_u64.to_le_bytes());
}

// "Straße" as a user: Windows knows no capital of ß, and the key is of the capitals.
#[test]
fn names_in_each_form() {
    for (given, user, domain) in [
        ("EXAMPLE\\ada", "ada", "EXAMPLE"),
        ("ada@example.test", "ada@example.test", ""),
        ("ada", "ada", ""),
        ("D\\a\\b", "a\\b", "D"),
    ] {
        let ntlm = ntlm(given);
        assert_eq!((&*ntlm.0.user, &*ntlm.0.domain), (user, domain));
    }
    let same = |a, b| compute::response_key("p", a, "d") == compute::response_key("p", b, "d");
    assert!(same("jörg straße", "JÖRG STRAßE") && !same("straße", "strasse"));
    for bad in ["", "D\\", &"x".repeat(2000)] {
        let e = Ntlm::new(bad, Secret::new("p"), || unreachable!()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Invalid);
    }
}

// Version 1 is what an attacker in the middle would like to be asked for.
#[test]
fn what_is_not_version_2_is_refused() {
    let good = hex(CHALLENGE);
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        Challenge::read(&bytes).map(|_| ()).unwrap_err()
    };
    assert!(with(22, 0x0a).contains("version 1"), "no target info");
    assert!(with(20, 0x32).contains("Unicode"));
    assert!(with(8, 1).contains("no CHALLENGE"));
    assert!(with(44, 0).contains("not in it"), "the target info would be the head");
    assert_eq!(TargetInfo::read(&[7, 0, 4, 0, 1, 2, 3, 4, 0, 0, 0, 0]), Err("its time is of a wrong length"));
    assert_eq!(TargetInfo::read(&[6, 0, 0, 0, 0, 0, 0, 0]), Err("its flags are of a wrong length"));
}

// A stranger's bytes are answered or refused; they must not bring the host down.
#[test]
fn no_challenge_is_too_bad() {
    let endpoint = Endpoint::parse("mail.example.test").unwrap();
    let cancel = Cancel::new();
    let cx = Context { endpoint: &endpoint, certificate: None, cancel: &cancel, until: Instant::now() };
    let told = |bytes: &[u8]| {
        let mut turns = ntlm("D\\ada").start(Scheme::Ntlm);
        turns.first(&cx).unwrap().unwrap();
        let challenge = format!("NTLM {}", BASE64_STANDARD.encode(bytes));
        match turns.challenged(&[challenge], &cx) {
            Ok(Answer::Again(_)) => true,
            Ok(Answer::Refused) => panic!("neither"),
            Err(e) => {
                assert!(
                    e.kind() == ErrorKind::Protocol && e.to_string().contains("mail.example.test"),
                    "{e}"
                );
                false
            }
        }
    };
    let good = hex(CHALLENGE);
    assert!(told(&good));
    for end in 1..good.len() {
        assert!(!told(&good[..end]), "cut at {end}");
    }
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        told(&bytes);
    }
    for challenge in ["NTLM !", "NTLM A===", &format!("NTLM {}", "A".repeat(20_000))] {
        let mut turns = ntlm("D\\ada").start(Scheme::Ntlm);
        turns.first(&cx).unwrap();
        assert!(turns.challenged(&[challenge.to_owned()], &cx).is_err());
    }
    // As long as it may be: what is sent back has more in it.
    let long = [&[1, 0][..], &12_000_u16.to_le_bytes(), &[b'x'; 12_000], &[0; 4]].concat();
    assert!(told(&with_target_info(&long)));
}

// A request on a socket that is signed in has no header; one on another socket in its place, or refused, begins anew.
#[test]
fn a_socket_is_signed_in_once() {
    let endpoint = Endpoint::parse("mail.example.test").unwrap();
    let cancel = Cancel::new();
    let cx = Context { endpoint: &endpoint, certificate: None, cancel: &cancel, until: Instant::now() };
    let mut turns = ntlm("D\\ada").start(Scheme::Ntlm);
    let offer = ["Negotiate".to_owned(), "NTLM".to_owned()];
    let challenge = [format!("NTLM {}", challenge())];
    let again = |answer: Result<Answer>| match answer {
        Ok(Answer::Again(header)) => header,
        other => panic!("{other:?}"),
    };
    let ask = turns.first(&cx).unwrap().unwrap();
    assert_eq!(turns.manner(), Manner::Opening);
    again(turns.challenged(&challenge, &cx));
    assert_eq!(turns.manner(), Manner::Closing);
    for _ in 0..2 {
        assert!(turns.first(&cx).unwrap().is_none());
        assert_eq!(turns.manner(), Manner::Request);
    }
    assert_eq!(again(turns.challenged(&offer, &cx)), ask);
    again(turns.challenged(&challenge, &cx));
    assert!(matches!(turns.challenged(&offer, &cx), Ok(Answer::Refused)));
    assert!(turns.was_tried() && turns.refusal().unwrap().contains("check name"));
    // A way that is offered and answered with nothing.
    let mut turns = ntlm("D\\ada").start(Scheme::Negotiate);
    turns.first(&cx).unwrap();
    assert!(matches!(turns.challenged(&offer, &cx), Ok(Answer::Refused)) && !turns.was_tried());
}
