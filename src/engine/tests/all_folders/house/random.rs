//! Much that happens, at random; none of it may be missed, or told twice.

use super::*;

/// A mailbox in which much happens, with a link that breaks, a host that is killed, and a server that forgets.
pub(in super::super) fn random(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut h = House::new();
    h.dated = rng.u8(..4) > 0;
    h.page = [1, 2, 5, 512][rng.usize(..4)];
    h.start();
    // Everything that came since the start, by what it is called now.
    let mut runs = vec![0];
    let mut log: Vec<Event> = Vec::new();
    for _ in 0..rng.usize(20..120) {
        let folders: Vec<String> =
            h.folders.iter().filter(|(_, f)| !f.search).map(|(id, _)| id.clone()).collect();
        let own: Vec<&String> = folders.iter().filter(|f| f.starts_with("g")).collect();
        let any = |rng: &mut fastrand::Rng| folders[rng.usize(..folders.len())].clone();
        let (one, other) = (any(&mut rng), any(&mut rng));
        h.items += 1;
        let name = format!("{}{:04}", if rng.bool() { "m" } else { "a" }, h.items);
        match rng.u8(..24) {
            0..=4 => h.put(&one, &name),
            5 | 6 => h.move_item(&one, &other),
            7 => drop(h.take_out(&one)),
            8 | 9 => {
                let folder = format!("g{:04}", h.items);
                h.make(&folder, (rng.u8(..6) > 0).then_some(one.as_str()));
                if rng.bool() && !h.folders[&folder].search {
                    h.put(&folder, &name);
                }
            }
            10 => {
                if let Some(folder) = own.get(rng.usize(..own.len().max(1))) {
                    let inside = |mut at: String| loop {
                        if at == **folder {
                            break true;
                        }
                        match h.folders.get(&at).and_then(|f| f.parent.clone()) {
                            Some(parent) => at = parent,
                            None => break false,
                        }
                    };
                    if !inside(one.clone()) {
                        h.adopt(folder, &one);
                    }
                }
            }
            11 => {
                if let Some(folder) = own.get(rng.usize(..own.len().max(1))) {
                    h.drop_folder(folder);
                }
            }
            12 | 13 => {
                h.cut();
                if rng.bool() {
                    h.subscription.clear();
                }
            }
            14 => h.mend(),
            15 => {
                // Killed in the middle of something.
                log.append(&mut h.told.clone());
                runs.push(log.len());
                h.kill();
                h.start();
            }
            16 => h.forget_hierarchy(rng.bool()),
            17 => {
                // A stream is not later than that.
                h.flush();
                h.wait(rng.u64(..100));
            }
            18 => h.pass(rng.u64(..3)),
            19 if rng.u8(..4) == 0 => {
                h.dead = true;
                h.live_later.clear();
            }
            20 | 21 => h.flush(),
            _ => {
                for _ in 0..rng.usize(..20) {
                    h.step(rng.usize(..8), rng.usize(..3));
                }
            }
        }
        let seconds = Duration::from_millis(rng.u64(..1500));
        h.now.wall += seconds;
        h.now.mono += seconds;
    }
    h.flush();
    h.mend();
    h.flush();
    h.beat_for(9000);
    log.append(&mut h.told.clone());
    runs.push(log.len());
    let missing: Vec<String> = h
        .folders
        .iter()
        .filter(|(_, f)| !f.search)
        .flat_map(|(folder, f)| {
            f.items(f.log.len()).keys().map(move |i| format!("{folder}/{i}")).collect::<Vec<_>>()
        })
        .filter(|place| {
            let item = place.split_once('/').map(|(_, item)| item);
            let told = |e: &&Event| {
                matches!(e.kind, EventKind::NewMail | EventKind::Moved) && e.item_id.as_deref() == item
            };
            !log.iter().any(|e| told(&e))
        })
        .collect();
    assert!(missing.is_empty(), "never told: {missing:?}");
    for run in runs.windows(2) {
        let mut seen = BTreeSet::new();
        // What a search folder repeats of moves is told before it is known as one.
        let moved = |e: &Event| e.item_id.as_ref().is_some_and(|id| id.ends_with('\''));
        let echo = |e: &&Event| e.kind == EventKind::Created && moved(e);
        for event in log[run[0]..run[1]].iter().filter(|e| !echo(e)) {
            if let (EventKind::NewMail | EventKind::Created, Some(id)) = (event.kind, &event.item_id) {
                assert!(seen.insert((event.kind.name(), id)), "told twice: {event:?}");
            }
            if let (EventKind::Created, Some(id)) = (event.kind, &event.folder_id) {
                assert!(seen.insert(("folder", id)), "told twice: {event:?}");
            }
        }
    }
    let last = |kind| log.iter().rposition(|e| e.kind == kind);
    assert!(last(EventKind::Drained) > last(EventKind::Gap), "a gap is never filled");
}
