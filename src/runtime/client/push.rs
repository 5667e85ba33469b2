//! What a server sends by itself.

use std::net::SocketAddr;

use super::Client;
use crate::Result;
use crate::push::PushFed;

impl Client {
    /// Takes the body of a POST that Exchange sent to the host's own web server (`mode=push` with option `push_url`), and says what to
    /// answer. It returns at once: fetching, catching up and the host's own work come later. The events come by
    /// [`next`](Self::next), in their order and with the promises of a stream. After [`close`](Self::close), and for subscriptions
    /// that this client does not have, the answer is `Unsubscribe`.
    ///
    /// A web process without a client uses [`push_parse`](crate::push_parse), or puts the body into the folder `push` of the
    /// client's state directory, as the examples in `ffi-examples` do.
    ///
    /// ```
    /// let client = ewsnotify::Client::open(&ewsnotify::Options::new())?;
    /// # let body = br#"<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><SendNotification
    /// #     xmlns="http://schemas.microsoft.com/exchange/services/2006/messages"><ResponseMessages>
    /// #     <SendNotificationResponseMessage ResponseClass="Success"><Notification><SubscriptionId>HwBz=</SubscriptionId>
    /// #     <StatusEvent/></Notification></SendNotificationResponseMessage></ResponseMessages></SendNotification>
    /// #     </s:Body></s:Envelope>"#;
    /// let fed = client.push_feed(body)?; // of somebody else's subscription
    /// assert_eq!(fed.http_status, 200);
    /// assert!(fed.reply.contains("Unsubscribe"));
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`](crate::ErrorKind::Protocol) and [`ErrorKind::Limit`](crate::ErrorKind::Limit) for a body that
    /// is no notification: to be answered with status 400.
    pub fn push_feed(&self, body: &[u8]) -> Result<PushFed> {
        self.shown(self.core.push(body).map(PushFed::from))
    }

    /// Where the library's own listener is, with option `push_listen`: for a port that the system chose.
    ///
    /// ```
    /// let mut options = ewsnotify::Options::new();
    /// options.set("push_listen", "127.0.0.1:0")?;
    /// let client = ewsnotify::Client::open(&options)?;
    /// assert!(client.push_address().is_some_and(|address| address.port() > 0));
    /// # Ok::<(), ewsnotify::Error>(())
    /// ```
    pub fn push_address(&self) -> Option<SocketAddr> {
        self.core.listener.as_ref().map(|listener| listener.address())
    }
}
