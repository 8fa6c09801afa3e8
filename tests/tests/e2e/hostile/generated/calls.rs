//! Requests made of pieces that have fooled somebody before, put together by dice that always fall alike.

use std::fmt;

/// One request, before it is written in a version of HTTP.
#[derive(Debug, Clone)]
pub(super) struct Call {
    /// Its `x-request-id`.
    pub(super) number: String,
    pub(super) http2: bool,
    pub(super) method: Vec<u8>,
    pub(super) target: Vec<u8>,
    /// `Host` lines; in HTTP/2 the first is `:authority`.
    pub(super) hosts: Vec<Vec<u8>>,
    pub(super) fields: Vec<(&'static str, Vec<u8>)>,
}

/// Splitmix64.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end as u64).unwrap()
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn of<'a>(&mut self, pieces: &[&'a [u8]]) -> &'a [u8] {
        pieces[self.below(pieces.len())]
    }
}

/// Where a segment begins or ends.
const SLASHES: [&[u8]; 14] =
    [b"/", b"/", b"/", b"/", b"//", b"///", b"/./", b"/../", b"\\", b"%2f", b"%2F", b"%5c", b"%5C", b"/..;/"];

const SEGMENTS: [&[u8]; 46] = [
    b"admin",
    b"admin",
    b"%61dmin",
    b"adm%69n",
    b"Admin",
    b"admin;x=y",
    b"admin%20",
    b"%2561dmin",
    b"%%361dmin",
    b"%4%31dmin",
    b"private",
    b"pr%69vate",
    b"t",
    b"x",
    b"x",
    b"public",
    b"..",
    b"..",
    b".",
    b"...",
    b"%2e%2e",
    b"%2E.",
    b".%2e",
    b"%2e",
    b"%252e%252e",
    b"..;",
    b"..;a=b",
    b".;",
    b"%2e%2e;",
    b"..%3b",
    b"..%00",
    b";",
    b";a=b",
    b"%c0%ae%c0%ae",
    b"%c0%af",
    b"%e0%80%af",
    b"%ef%bc%8f",
    b"%u002f",
    b"a%3fb",
    b"a%23b",
    b"%zz",
    b"%",
    b"%2",
    b"a[b]",
    b"a~b",
    b"",
];

/// What is rarely right, each by itself.
const ODD: [&[u8]; 18] = [
    b"%00",
    b"\x00",
    b"\x01",
    b"\x7f",
    b"\xc3\xa9",
    b"\xff",
    b"\xc0\xaf",
    b"\"",
    b"<",
    b">",
    b"^",
    b"`",
    b"{",
    b"|",
    b"}",
    b"*",
    b"'",
    b"$&+,=:@!()",
];

const QUERIES: [&[u8]; 9] =
    [b"?", b"?a=b", b"?token=1", b"?token=1&x", b"?/../admin", b"?%2e%2e/%00", b"??x", b"?a%23b", b"?\\//"];

const HOSTS: [&[u8]; 20] = [
    b"open.example",
    b"open.example",
    b"open.example",
    b"open.example:80",
    b"secret.example",
    b"SECRET.example",
    b"secret.example:80",
    b"secret.example:",
    b"secret.example.",
    b"sec%72et.example",
    b"xsecret.example",
    b"[::1]",
    b"[::1]:80",
    b"",
    b"a b",
    b"user@secret.example",
    b"secret.example/x",
    b"open.example,secret.example",
    b"open.example?secret.example",
    b"\xc3\xa9.example",
];

const METHODS: [&[u8]; 12] = [
    b"GET",
    b"GET",
    b"GET",
    b"GET",
    b"POST",
    b"DELETE",
    b"delete",
    b"DELETEX",
    b"OPTIONS",
    b"PATCH",
    b"M-SEARCH",
    b"G(T",
];

const FIELDS: [(&str, &[u8]); 28] = [
    ("x-role", b"user"),
    ("x-role", b"admin"),
    ("x-role", b"ADMIN"),
    ("x-role", b" admin"),
    ("x-role", b"admin\t"),
    ("x-role", b"admin,user"),
    ("x-role", b"ad\xffmin"),
    ("x-role", b""),
    ("X-ROLE", b"user"),
    ("X-Role", b"admin"),
    ("x_role", b"admin"),
    ("x-role-", b"admin"),
    ("x-group", b"guest"),
    ("x-group", b"staff"),
    ("x-group", b"staff, guest"),
    ("X-Group", b"guest "),
    ("x-group", b""),
    ("cookie", b"a=b"),
    ("cookie", b"evil=1"),
    ("cookie", b"a=b; evil=1"),
    ("cookie", b"evil=1; a=b"),
    ("cookie", b"EVIL=1"),
    ("cookie", b""),
    ("x-original-url", b"/admin"),
    ("x-rewrite-url", b"/admin"),
    ("x-forwarded-host", b"secret.example"),
    ("x-http-method-override", b"DELETE"),
    ("x-forwarded-prefix", b"/admin"),
];

impl Call {
    pub(super) fn thrown(dice: &mut Dice, number: String, http2: bool) -> Self {
        let method = if dice.one_in(3) { dice.of(&METHODS) } else { b"GET" }.to_vec();
        let mut target = target(dice);
        if !http2 && dice.one_in(12) {
            let scheme = dice.of(&[b"http://", b"HTTP://", b"https://", b"ftp://"]);
            target = [scheme, dice.of(&HOSTS), &target].concat();
        }
        let mut hosts = vec![if dice.one_in(3) { dice.of(&HOSTS) } else { b"open.example" }.to_vec()];
        if dice.one_in(40) {
            let same = http2 && dice.one_in(2);
            hosts.push(if same { hosts[0].clone() } else { dice.of(&HOSTS).to_vec() });
        }
        let mut fields = fields(dice);
        if http2 {
            // Written as HTTP/2 writes them: anything else is malformed, which is for its own tests.
            fields
                .retain(|(name, value)| *name == name.to_ascii_lowercase() && value.trim_ascii().len() == value.len());
        }
        Self { number, http2, method, target, hosts, fields }
    }
}

fn target(dice: &mut Dice) -> Vec<u8> {
    if dice.one_in(60) {
        return dice.of(&[b"*", b"", b"admin", b"?x", b"\\admin", b"%2fadmin", b"#/admin"]).to_vec();
    }
    let mut target = b"/".to_vec();
    if dice.one_in(40) {
        let run = dice.of(&[b"/", b"../", b"./", b"x/../", b"%2e%2e/", b"..;/", b"\\", b"%2f", b".", b";"]);
        target.extend(run.repeat(1 + dice.below(400)));
    }
    for index in 0..dice.below(6) {
        if index > 0 {
            target.extend(dice.of(&SLASHES));
        }
        target.extend(dice.of(&SEGMENTS));
        if dice.one_in(25) {
            target.extend(dice.of(&ODD));
        }
    }
    if dice.one_in(4) {
        target.extend(dice.of(&QUERIES));
    }
    if dice.one_in(60) {
        target.extend(b"#/../admin");
    }
    target
}

fn fields(dice: &mut Dice) -> Vec<(&'static str, Vec<u8>)> {
    let mut fields = Vec::new();
    if dice.one_in(60) {
        // One of a hundred lines, of which some are one too many.
        let count = 40 + dice.below(80);
        fields = vec![("x-role", b"user".to_vec()); count];
    }
    if dice.one_in(2) {
        for _ in 0..dice.below(5) {
            let (name, value) = FIELDS[dice.below(FIELDS.len())];
            fields.push((name, value.to_vec()));
        }
    }
    fields
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {} to", self.number, self.method.escape_ascii(), self.target.escape_ascii())?;
        for host in &self.hosts {
            write!(f, " {:?}", host.escape_ascii().to_string())?;
        }
        for (name, value) in self.fields.iter().take(8) {
            write!(f, ", {name}: {:?}", value.escape_ascii().to_string())?;
        }
        Ok(())
    }
}
