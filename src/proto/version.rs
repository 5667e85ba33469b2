//! Which product a server's version is.

use super::ServerVersion;

impl ServerVersion {
    /// The product and the numbers, as `Exchange 2016 (15.1.2507.39)`; `None` where the server did not say. Servers that speak as
    /// Exchange does, without being one, call themselves by one of its versions.
    ///
    /// ```
    /// let version = ewsnotify::proto::ServerVersion { major: Some(15), minor: Some(1), ..Default::default() };
    /// assert_eq!(version.product().unwrap(), "Exchange 2016 (15.1)");
    /// ```
    pub fn product(&self) -> Option<String> {
        let major = self.major?;
        let name = match (major, self.minor.unwrap_or_default()) {
            (8, _) => "Exchange 2007",
            (14, 0) => "Exchange 2010",
            (14, 1) => "Exchange 2010 SP1",
            (14, 2) => "Exchange 2010 SP2",
            (14, _) => "Exchange 2010 SP3",
            (15, 0) => "Exchange 2013",
            (15, 1) => "Exchange 2016",
            (15, 2) => "Exchange 2019 or Subscription Edition",
            (15, 20) => "Exchange Online",
            _ => "Exchange of an unknown version",
        };
        let parts = [Some(major), self.minor, self.major_build, self.minor_build];
        let numbers: Vec<String> = parts.iter().map_while(|n| n.map(|n| n.to_string())).collect();
        Some(format!("{name} ({})", numbers.join(".")))
    }
}
