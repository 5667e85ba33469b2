//! Autodiscover's answers: the documentation's own, those of other clients' tests, and nonsense.

#[path = "common/beside.rs"]
mod beside;

use ewsnotify::ErrorKind;
use ewsnotify::proto::autodiscover::{
    Autodiscovered, UserSettings, read_pox, read_user_settings, write_pox, write_user_settings,
};

#[track_caller]
fn settings(found: Autodiscovered) -> UserSettings {
    match found {
        Autodiscovered::Settings(settings) => *settings,
        other => panic!("{other:?}"),
    }
}

fn soap(bytes: &[u8]) -> Autodiscovered {
    let mut users = read_user_settings(bytes).unwrap();
    assert_eq!(users.len(), 1);
    users.remove(0)
}

// What Microsoft's pages show is what an administrator's server sends.
#[test]
fn the_documentations_examples() {
    let Some(dir) = beside::shared("ews/samples/msdocs-repaired") else { return };
    let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
    let mut whole =
        read("howto-get-user-settings-from-exchange-by-using-a__2-GetUserSettingsResponseMessage.xml");
    if whole.trim_ascii_end().ends_with(b"</s:Envelope") {
        whole.push(b'>');
    }
    let found = settings(soap(&whole));
    assert_eq!(found.external_ews_url.as_deref(), Some("https://mail.contoso.com/EWS/Exchange.asmx"));
    assert_eq!(found.grouping_information.as_deref(), Some("CONTOSO-1"));
    assert!(found.ews_supported_schemas.unwrap().contains("Exchange2010_SP2"));
    assert_eq!(found.server_version.unwrap().product().unwrap(), "Exchange 2013 (15.0.160.4)");
    let found = settings(soap(&read(
        "howto-use-autodiscover-to-find-connection-points__4-GetUserSettingsResponseMessage.xml",
    )));
    assert_eq!(found.internal_ews_url.as_deref(), Some("https://server.Contoso.com/ews/exchange.asmx"));
    for name in [
        "handling-autodiscover-error-messages__1-GetUserSettingsResponseMessage.xml",
        "howto-use-autodiscover-to-find-connection-points__2-GetUserSettingsResponseMessage.xml",
    ] {
        assert!(
            matches!(soap(&read(name)), Autodiscovered::RedirectAddress(to) if to.to_lowercase().contains("@mail.contoso.com")),
            "{name}"
        );
    }
    let found = settings(
        read_pox(&read("howto-get-user-settings-from-exchange-by-using-a__4-Autodiscover.xml")).unwrap(),
    );
    assert_eq!(found.address.as_deref(), Some("mara@contoso.com"));
    assert_eq!(found.internal_ews_url.as_deref(), Some("https://mail.contoso.com/EWS/Exchange.asmx"));
    assert_eq!(found.server_version.unwrap().product().unwrap(), "Exchange 2013 (15.0.516)");
    let found = read_pox(&read("handling-autodiscover-error-messages__2-Autodiscover.xml")).unwrap();
    assert_eq!(found, Autodiscovered::RedirectAddress("elvin@mail.contoso.com".into()));
}

#[test]
fn errors_of_the_whole_answer() {
    let Some(dir) = beside::shared("ews/samples/exchangelib") else { return };
    for (name, code) in [("1", "InvalidSetting"), ("2", "InternalServerError")] {
        let bytes =
            std::fs::read(dir.join(format!("test_autodiscover_test_get_user_settings_{name}.xml"))).unwrap();
        assert!(
            matches!(soap(&bytes), Autodiscovered::Refused { code: found, text: Some(_) } if found == code),
            "{name}"
        );
    }
}

// Other prefixes, other namespaces, white space, what nobody knows.
#[test]
fn local_names_are_enough() {
    let found = settings(soap(
        b"\xef\xbb\xbf<?xml version='1.0'?><!-- x --><q:Envelope xmlns:q='urn:q'><q:Body><z:GetUserSettingsResponseMessage xmlns:z='urn:z'>\
          <z:Response><z:New/><z:UserResponses><z:UserResponse><z:UserSettings><z:UserSetting><z:Value> https://m.test/EWS/Exchange.asmx\n\
          </z:Value><z:Name>ExternalEwsUrl</z:Name></z:UserSetting></z:UserSettings></z:UserResponse></z:UserResponses></z:Response>\
          </z:GetUserSettingsResponseMessage></q:Body></q:Envelope>",
    ));
    assert_eq!(found.external_ews_url.as_deref(), Some("https://m.test/EWS/Exchange.asmx"));
    let found = settings(read_pox(b"<a:Autodiscover xmlns:a='x'><Response><Account><Protocol Type='EXPR'><ASUrl>https://m.test/</ASUrl></Protocol></Account></Response></a:Autodiscover>").unwrap());
    assert_eq!(found.external_ews_url.as_deref(), Some("https://m.test/"));
}

// A page that is taken for an answer sends a watch nowhere, or ends the search for the right one.
#[test]
fn what_is_no_answer_is_an_error() {
    for text in [
        "",
        " ",
        "<html><body>hello</body></html>",
        "<!DOCTYPE html><p>",
        "Not found",
        "{}",
        "<a",
        "<a/>",
        "<Envelope/>",
        "<Envelope><Body/></Envelope>",
        "<Envelope><Body><GetFolderResponse/></Body></Envelope>",
        "<Autodiscover/>",
        "<Autodiscover><Response/></Autodiscover>",
        "<!DOCTYPE Autodiscover [<!ENTITY x 'y'>]><Autodiscover>&x;</Autodiscover>",
    ] {
        for e in [
            read_user_settings(text.as_bytes()).map(drop).unwrap_err(),
            read_pox(text.as_bytes()).map(drop).unwrap_err(),
        ] {
            assert_eq!(e.kind(), ErrorKind::Protocol, "{text}: {e}");
        }
    }
    let fault = b"<s:Envelope xmlns:s='http://schemas.xmlsoap.org/soap/envelope/'><s:Body><s:Fault><faultcode>a:InternalServiceFault</faultcode>\
                  <faultstring>Sorry.</faultstring></s:Fault></s:Body></s:Envelope>";
    let e = read_user_settings(fault).unwrap_err();
    assert_eq!((e.kind(), e.code()), (ErrorKind::Server, Some("InternalServiceFault")));
}

// Any bytes at all: an answer or an error, no panic and no wait.
#[test]
fn random_bytes_never_panic() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let pieces = [
        "<Envelope>",
        "</Envelope>",
        "<Body>",
        "</Body>",
        "<GetUserSettingsResponseMessage>",
        "<Response>",
        "<UserResponses>",
        "<UserResponse>",
        "<ErrorCode>",
        "NoError",
        "</ErrorCode>",
        "<Autodiscover>",
        "<Account>",
        "<Protocol>",
        "<Type>",
        "EXPR",
        "</Type>",
        "<EwsUrl>",
        "\u{e9}",
        "&#x1;",
        "<![CDATA[",
        "]]>",
        "<!--",
        "\u{0}",
    ];
    for _ in 0..20_000 {
        let text: String = (0..random.usize(..14)).map(|_| pieces[random.usize(..pieces.len())]).collect();
        let _ = (read_user_settings(text.as_bytes()), read_pox(text.as_bytes()));
    }
}

// An address is a stranger's text: it must not write XML.
#[test]
fn requests() {
    let evil = "a<b>&\"@example.test";
    for xml in [
        write_user_settings(&[evil, "bob@example.test"], "https://x.test/?a&b").unwrap(),
        write_pox(evil).unwrap(),
    ] {
        let xml = String::from_utf8(xml).unwrap();
        assert!(xml.contains("a&lt;b&gt;&amp;") || xml.contains("a&lt;b>&amp;"), "{xml}");
        let events: Result<Vec<_>, _> = xml::EventReader::new(xml.as_bytes()).into_iter().collect();
        assert!(events.unwrap().len() > 5);
    }
    assert_eq!(write_pox("").unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(write_user_settings(&["a\u{1}"], "https://x.test").unwrap_err().kind(), ErrorKind::Invalid);
}
