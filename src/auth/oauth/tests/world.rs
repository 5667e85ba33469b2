//! An issuer that takes each refresh token once, a store with a lock, and processes that share both. Time is virtual.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::auth::Secret;
use crate::auth::oauth::*;
use crate::{Error, ErrorKind, Result};

pub fn account(refresh_token: Option<&str>) -> Account {
    Account {
        client_id: "app".into(),
        endpoints: Endpoints::of_tenant("example.com", Cloud::Public).unwrap(),
        proof: Proof::Nothing,
        scope: Account::default_scope(Cloud::Public.resource(), false),
        user: "ada@example.com".into(),
        app_only: refresh_token.is_none(),
        refresh_token: refresh_token.map(Secret::new),
    }
}

/// Gives tokens and says whether they are good.
pub struct Authority {
    pub life: Duration,
    /// Whether a refresh token that was replaced is still taken, until its successor was used.
    pub grace: bool,
    pub down: bool,
    /// The refresh token that is good now, and the one before.
    pub newest: String,
    before: Option<String>,
    /// By token: when it ends.
    pub good: BTreeMap<String, Duration>,
    pub requests: usize,
    /// How often a refresh token came that was replaced already.
    pub old: usize,
    pub claims: Vec<Option<String>>,
    revoked: bool,
}

impl Authority {
    pub fn new(life: Duration) -> Authority {
        Authority {
            life,
            grace: false,
            down: false,
            newest: "r0".into(),
            before: None,
            good: BTreeMap::new(),
            requests: 0,
            old: 0,
            claims: Vec::new(),
            revoked: false,
        }
    }

    pub fn answer(&mut self, form: &Form, now: Duration) -> Result<Granted, Denied> {
        if self.down {
            return answer::read(503, b"busy", None, &str::to_owned);
        }
        let find = |name: &str| {
            let pairs = form.body.expose().split('&').filter_map(|pair| pair.split_once('='));
            pairs.filter(|(n, _)| *n == name).map(|(_, v)| v.to_owned()).next()
        };
        assert_eq!(find("grant_type").as_deref(), Some("refresh_token"));
        let came = find("refresh_token").unwrap();
        self.claims.push(find("claims"));
        self.requests += 1;
        let known = if came == self.newest {
            self.before = Some(std::mem::replace(&mut self.newest, format!("r{}", self.requests)));
            true
        } else {
            self.old += 1;
            // Its successor was lost on the way, and is void.
            self.grace && self.before.as_deref() == Some(&*came)
        };
        if !known || self.revoked {
            // As issuers do that look for stolen tokens: the whole family goes.
            self.revoked = true;
            let body = br#"{"error":"invalid_grant","error_description":"AADSTS70008: expired","error_codes":[70008]}"#;
            return answer::read(400, body, None, &str::to_owned);
        }
        if self.old > 0 {
            self.newest = format!("r{}", self.requests);
        }
        let token = format!("a{}", self.requests);
        self.good.insert(token.clone(), now + self.life);
        let body = format!(
            r#"{{"token_type":"Bearer","expires_in":{},"access_token":"{token}","refresh_token":"{}"}}"#,
            self.life.as_secs(),
            self.newest
        );
        answer::read(200, body.as_bytes(), None, &str::to_owned)
    }

    pub fn takes(&self, token: &Secret, now: Duration) -> bool {
        self.good.get(token.expose()).is_some_and(|until| now < *until)
    }
}

/// What the processes share.
pub struct Disk {
    pub file: Option<Vec<u8>>,
    pub owner: Option<usize>,
    pub full: bool,
}

/// One process of the account.
pub struct Process {
    pub number: usize,
    pub keeper: Keeper,
    pub job: Option<Job>,
    /// The request is under way.
    pub asking: bool,
}

pub struct World {
    pub now: Duration,
    /// How far the wall clock is ahead of what it should be.
    pub skew: i64,
    pub issuer: Authority,
    pub disk: Disk,
    pub account: Arc<Account>,
    /// How many requests are under way, and were at the most.
    pub under_way: usize,
    pub most: usize,
    /// The refresh tokens that the host was told of.
    pub told: Vec<Secret>,
}

impl World {
    pub fn new(life: Duration) -> World {
        World {
            now: Duration::from_secs(1000),
            skew: 0,
            issuer: Authority::new(life),
            disk: Disk { file: None, owner: None, full: false },
            account: Arc::new(account(Some("r0"))),
            under_way: 0,
            most: 0,
            told: Vec::new(),
        }
    }

    pub fn moment(&self) -> Moment {
        let wall = UNIX_EPOCH + Duration::from_secs(1_800_000_000) + self.now;
        let skew = Duration::from_secs(self.skew.unsigned_abs());
        let wall: SystemTime = if self.skew < 0 { wall - skew } else { wall + skew };
        Moment { mono: self.now, wall }
    }

    pub fn process(&self, number: usize) -> Process {
        let keeper = Keeper::new(self.account.clone(), true, number as u64 + self.now.as_secs());
        Process { number, keeper, job: None, asking: false }
    }

    /// Somebody in the process needs a token.
    pub fn ask(&mut self, process: &mut Process) -> Step {
        let step = process.keeper.token(self.moment(), &mut |bytes| bytes.fill(7));
        match step {
            Step::Begin(job) => {
                assert!(process.job.is_none(), "two jobs at a time");
                process.job = Some(job);
                Step::Busy
            }
            step => step,
        }
    }

    /// One step of the job that is under way. False where it waits for another process.
    pub fn work(&mut self, process: &mut Process) -> bool {
        let Some(job) = process.job.take() else { return false };
        let now = self.moment();
        let next = match job {
            Job::Load => {
                if self.disk.owner.is_some_and(|owner| owner != process.number) {
                    process.job = Some(Job::Load);
                    return false;
                }
                self.disk.owner = Some(process.number);
                let id = self.account.id();
                let stored = self.disk.file.as_ref().map(|file| Record::read(file, &id)).transpose();
                process.keeper.loaded(stored, now, &mut |bytes| bytes.fill(7))
            }
            Job::Ask(form) if !process.asking => {
                process.asking = true;
                self.under_way += 1;
                self.most = self.most.max(self.under_way);
                process.job = Some(Job::Ask(form));
                return true;
            }
            Job::Ask(form) => {
                process.asking = false;
                self.under_way -= 1;
                let answer = self.issuer.answer(&form, self.now);
                process.keeper.answered(answer, now)
            }
            Job::Store(record) => {
                assert_eq!(self.disk.owner, Some(process.number), "stored without the lock");
                let stored = match self.disk.full {
                    true => Err(Error::new(ErrorKind::Io, "no space left")),
                    false => {
                        self.disk.file = Some(record.write().to_vec());
                        Ok(())
                    }
                };
                process.keeper.stored(stored, now)
            }
            Job::Tell(token) => {
                self.told.push(token);
                process.keeper.told()
            }
        };
        match next {
            Next::Go(job) => process.job = Some(job),
            Next::Done if !process.keeper.keeps_lock() && self.disk.owner == Some(process.number) => {
                self.disk.owner = None;
            }
            Next::Done => {}
        }
        true
    }

    /// A token, at once.
    pub fn token(&mut self, process: &mut Process) -> Result<Secret> {
        loop {
            match self.ask(process) {
                Step::Use(token) => return Ok(token),
                Step::Fail(e) => return Err(e),
                Step::Busy | Step::Begin(_) => {
                    while process.job.is_some() {
                        assert!(self.work(process), "another process has the lock");
                    }
                }
            }
        }
    }

    /// The process is gone: what it knew, and its lock.
    pub fn kill(&mut self, process: Process) {
        if process.asking {
            self.under_way -= 1;
        }
        if self.disk.owner == Some(process.number) {
            self.disk.owner = None;
        }
    }

    pub fn stored(&self) -> Record {
        Record::read(self.disk.file.as_ref().unwrap(), &self.account.id()).unwrap()
    }

    pub fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }
}
