//! Building what the host is told, and the place in the order where it is told.

use std::time::SystemTime;

use super::delivery::widen;
use super::hold::Held;
use super::watch::{Continuity, Untold};
use super::{Engine, event_kind};
use crate::event::{Detail, Fill};
use crate::proto::{Notice, Target};
use crate::{Error, Event, EventKind, Origin, Reason};

/// Every so many failures in a row the host is told again.
pub(super) const TOLD_EVERY: u32 = 10;

impl Engine {
    /// Tells something of a watch, behind what is held back.
    pub(super) fn tell(&mut self, watch: u64, kind: EventKind, detail: Detail) {
        let time = self.now.wall;
        let Some(w) = self.watches.get_mut(&watch) else { return };
        let mut event = Event::new(kind, watch, w.spec.mailbox.clone(), time);
        if detail != Detail::default() {
            event.detail = Some(Box::new(detail));
        }
        if w.hold.is_empty() {
            return self.push(event);
        }
        // One gap behind another is one gap: what waits here is bounded.
        if let (EventKind::Gap, Some(Held::Ready(last))) = (kind, w.hold.back_mut())
            && last.kind == EventKind::Gap
        {
            return widen(last, event);
        }
        w.hold.push_back(Held::Ready(event));
    }

    /// Tells that something may have been missed up to now, and has it looked for.
    pub(super) fn tell_gap(&mut self, watch: u64, reason: Reason, message: Option<String>) {
        let since = self.certain(watch);
        let fill = self.fill_gap(watch);
        self.tell_gap_since(watch, since, reason, message, fill);
    }

    /// Tells that something may have been missed since then, up to now.
    pub(super) fn tell_gap_since(
        &mut self,
        watch: u64,
        since: SystemTime,
        reason: Reason,
        message: Option<String>,
        fill: Fill,
    ) {
        let now = self.now.wall;
        let since = since.min(now);
        self.counters.gaps += 1;
        let detail = Detail {
            reason: Some(reason),
            since: Some(since),
            fill: Some(fill),
            message,
            ..Detail::default()
        };
        self.tell(watch, EventKind::Gap, detail);
        if let Some(w) = self.watches.get_mut(&watch) {
            w.certain = now;
            w.before = now;
            w.gap_at = Some(self.now.mono);
            w.streamed = now;
            if !w.folders_known.is_empty() {
                let gap = w.gap_untold.get_or_insert(Untold { since, until: now, whole: true });
                gap.since = gap.since.min(since);
                gap.until = gap.until.max(now);
                gap.whole &= fill == Fill::Pending;
                self.store_gap(watch);
            }
        }
    }

    /// The host has taken an event, and asked for more: it knows of a gap.
    pub(super) fn gap_taken(&mut self, watch: u64, until: SystemTime) {
        let Some(w) = self.watches.get_mut(&watch) else { return };
        if w.gap_untold.take_if(|gap| gap.until <= until).is_some() {
            self.store_gap(watch);
        }
    }

    /// The time up to which it is certain that nothing of a watch was missed.
    pub(super) fn certain(&self, watch: u64) -> SystemTime {
        let Some(w) = self.watches.get(&watch) else { return self.now.wall };
        let heard = w.group().and_then(|g| self.groups.get(&g)).and_then(|g| g.heard);
        let certain = match (w.connected, heard) {
            (Some(_), Some(heard)) if w.has_settled(self.now.mono) => w.certain.max(heard),
            (Some(_), Some(_)) => w.before,
            _ => w.certain,
        };
        // Where sync finds what the stream has not told, the subscription may have died without a word: of heartbeats it knows nothing.
        match w.folders_known.values().all(|f| f.suspects.is_empty()) {
            true => certain,
            false => certain.min(w.proved),
        }
    }

    /// The watch's first good message of a stream, or the first good answer: tells `Connected`, and what may have been
    /// missed before. `reached` is when the server began to give events out again.
    pub(super) fn connected(&mut self, watch: u64, reached: std::time::Duration) {
        let Some(w) = self.watches.get_mut(&watch) else { return };
        if w.connected.is_some() {
            return;
        }
        let gap = match w.continuity {
            Continuity::Broken(reason) => Some(reason),
            Continuity::Queued { from } if reached.saturating_sub(from) >= super::group::QUEUE_TRUSTED => {
                Some(w.down.unwrap_or(Reason::ConnectFailed))
            }
            _ => None,
        };
        w.worked();
        w.told_down = false;
        (w.down, w.failing) = (None, None);
        w.continuity = Continuity::Live;
        w.before = w.certain;
        self.tell(watch, EventKind::Connected, Detail::default());
        if let Some(reason) = gap {
            self.tell_gap(watch, reason, None);
        }
        let now = self.now;
        if let Some(w) = self.watches.get_mut(&watch) {
            w.connected = Some(now.mono);
        }
    }

    /// Tells that the link of a watch is gone, once until it stands again.
    pub(super) fn disconnected(&mut self, watch: u64, detail: Detail) {
        let certain = self.certain(watch);
        let Some(w) = self.watches.get_mut(&watch) else { return };
        w.certain = certain;
        (w.down, w.failing) = (detail.reason, detail.reason);
        w.connected = None;
        if !w.told_down {
            w.told_down = true;
            self.tell(watch, EventKind::Disconnected, detail);
        }
    }

    /// The mailbox event of a notice, if the host wants it.
    pub(super) fn mailbox_event(&self, watch: u64, notice: Notice) -> Option<Event> {
        let w = self.watches.get(&watch)?;
        let kind = event_kind(notice.kind)?;
        if !w.spec.events.contains(&kind) {
            return None;
        }
        let time = notice.time_stamp.as_deref().and_then(parse_time).unwrap_or(self.now.wall);
        let mut event = Event::new(kind, watch, w.spec.mailbox.clone(), time);
        event.origin = Some(Origin::Live);
        match notice.target {
            Some(Target::Item(id)) => {
                event.item_id = Some(id.id);
                event.change_key = id.change_key;
            }
            Some(Target::Folder(id)) => {
                event.folder_id = Some(id.id);
                event.change_key = id.change_key;
            }
            None => {}
        }
        match notice.old_target {
            Some(Target::Item(id)) => event.old_item_id = Some(id.id),
            Some(Target::Folder(id)) => event.old_folder_id = Some(id.id),
            None => {}
        }
        event.parent_folder_id = notice.parent_folder_id.map(|id| id.id);
        event.old_parent_folder_id = notice.old_parent_folder_id.map(|id| id.id);
        event.unread_count = notice.unread_count;
        Some(event)
    }
}

/// What an error tells a host.
pub(super) fn detail(error: &Error, reason: Option<Reason>) -> Detail {
    Detail {
        reason,
        code: error.code().map(str::to_owned),
        http_status: error.http_status(),
        message: Some(error.to_string()),
        ..Detail::default()
    }
}

/// A time as servers write it: with or without a fraction, `Z` or an offset.
pub(super) fn parse_time(text: &str) -> Option<SystemTime> {
    let text = text.trim();
    if let Ok(time) = humantime::parse_rfc3339_weak(text) {
        return Some(time);
    }
    let (date, offset) = text.split_at_checked(text.len().checked_sub(6)?)?;
    let (sign, hours, minutes) = (offset.get(..1)?, offset.get(1..3)?, offset.get(4..6)?);
    let seconds = hours.parse::<u64>().ok()? * 3600 + minutes.parse::<u64>().ok()? * 60;
    let offset = std::time::Duration::from_secs(seconds);
    let time = humantime::parse_rfc3339_weak(date).ok()?;
    match sign {
        "+" => time.checked_sub(offset),
        "-" => time.checked_add(offset),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Events would carry the time of arrival instead of the server's.
    #[test]
    fn times_of_every_form_are_understood() {
        let at = humantime::parse_rfc3339("2026-03-01T10:20:30Z").ok();
        for text in [
            "2026-03-01T10:20:30Z",
            "2026-03-01T10:20:30",
            " 2026-03-01T10:20:30.000Z ",
            "2026-03-01T12:20:30+02:00",
            "2026-03-01T05:20:30-05:00",
        ] {
            assert_eq!(parse_time(text), at, "{text}");
        }
        assert!(parse_time("2026-03-01T10:20:30.5Z") > at);
        for text in ["", "soon", "2026-03-01", "äöüßäö", "2026-13-41T99:20:30Z"] {
            let _ = parse_time(text);
        }
        assert_eq!(parse_time("äöüßäö"), None);
    }
}
