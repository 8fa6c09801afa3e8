use time::OffsetDateTime;

use super::*;
use crate::testing::*;

const GRACE: Duration = Duration::from_secs(30);

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn caller(workload: &Workload) -> PeerChain {
    PeerChain::new(&workload.chain, PeerRole::Caller)
}

/// On a full second, as certificates have it.
fn now() -> SystemTime {
    UNIX_EPOCH + seconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs())
}

fn ends_at(root: &Signer, end: SystemTime) -> Workload {
    root.workload_with(FRONTEND, |params| params.not_after = OffsetDateTime::from(end))
}

#[test]
fn is_good_to_the_last_second_then_expired_then_over() {
    let (root, end) = (Signer::root("root"), now() + seconds(60));
    let us = root.workload(BACKEND).identity(&[&root], &[]);
    let chain = caller(&ends_at(&root, end));
    let standing = |at| us.standing(&chain, at, GRACE);
    let first_after = end + seconds(1);
    assert_eq!(standing(now()), Standing::Good { until: first_after });
    assert_eq!(standing(end), Standing::Good { until: first_after });
    assert_eq!(standing(first_after), Standing::Expired { until: first_after + GRACE });
    assert_eq!(standing(end + GRACE), Standing::Expired { until: first_after + GRACE });
    assert_eq!(standing(first_after + GRACE), Standing::Over(Lost::Expired));
}

#[test]
fn an_intermediate_or_a_root_that_ends_before_the_leaf_ends_it() {
    let end = now() + seconds(60);
    let early = |params: &mut rcgen::CertificateParams| params.not_after = OffsetDateTime::from(end);
    let (root, early_root) = (Signer::root("root"), Signer::root_with("early", early));
    let intermediate = root.intermediate("intermediate", early);
    for (signer, roots) in [(&intermediate, [&root]), (&early_root, [&early_root])] {
        let us = signer.workload(BACKEND).identity(&roots, &[]);
        let chain = caller(&signer.workload(FRONTEND));
        assert_eq!(us.standing(&chain, now(), GRACE), Standing::Good { until: end + seconds(1) });
        assert!(matches!(us.standing(&chain, end + seconds(1), GRACE), Standing::Expired { .. }));
        assert_eq!(us.standing(&chain, end + GRACE + seconds(1), GRACE), Standing::Over(Lost::Expired));
    }
}

#[test]
fn a_root_that_was_taken_out_ends_it_without_a_grace_and_another_that_vouches_does_not() {
    let (old, new) = (Signer::root("old"), Signer::root("new"));
    let peer = caller(&old.workload(FRONTEND));
    let both = new.workload(BACKEND).identity(&[&old, &new], &[]);
    let after = new.workload(BACKEND).identity(&[&new], &[]);
    assert!(matches!(both.standing(&peer, now(), GRACE), Standing::Good { .. }));
    assert_eq!(after.standing(&peer, now(), GRACE), Standing::Over(Lost::Untrusted));
    // The same for one that we called.
    let expected = PeerRole::Server(Expected::from(id(FRONTEND)));
    let server = PeerChain::new(&old.workload(FRONTEND).chain, expected);
    assert!(matches!(both.standing(&server, now(), GRACE), Standing::Good { .. }));
    assert_eq!(after.standing(&server, now(), GRACE), Standing::Over(Lost::Untrusted));
}

#[test]
fn an_expired_certificate_gives_its_removed_root_no_grace() {
    let (old, new, end) = (Signer::root("old"), Signer::root("new"), now() - seconds(1));
    let after = new.workload(BACKEND).identity(&[&new], &[]);
    assert_eq!(after.standing(&caller(&ends_at(&old, end)), now(), GRACE), Standing::Over(Lost::Untrusted));
}

#[test]
fn a_clock_that_is_put_back_ends_nothing_and_one_put_forward_ends_what_has_expired_by_it() {
    let (root, hour) = (Signer::root("root"), seconds(3600));
    let us = root.workload(BACKEND).identity(&[&root], &[]);
    let chain = caller(&root.workload(FRONTEND));
    assert!(matches!(us.standing(&chain, now() - hour, GRACE), Standing::Good { .. }));
    assert_eq!(us.standing(&chain, now() + hour, GRACE), Standing::Over(Lost::Expired));
}

#[test]
fn what_cannot_be_read_is_over() {
    let root = Signer::root("root");
    let us = root.workload(BACKEND).identity(&[&root], &[]);
    for certificates in [&[][..], &[CertificateDer::from(vec![1, 2, 3])]] {
        let chain = PeerChain::new(certificates, PeerRole::Caller);
        assert_eq!(us.standing(&chain, now(), GRACE), Standing::Over(Lost::Untrusted));
    }
}

#[test]
fn the_root_behind_a_peer_is_known_after_the_handshake_and_found_out_where_it_is_not() {
    let (old, new) = (Signer::root("root"), Signer::root("root"));
    let us = new.workload(BACKEND).identity(&[&old, &new], &[]);
    let fingerprint = |signer: &Signer| -> Arc<str> { Arc::from(certificate::sha256(&signer.der)) };
    for signer in [&old, &new] {
        for role in [PeerRole::Caller, PeerRole::Server(Expected::from(id(FRONTEND)))] {
            let chain = PeerChain::new(&signer.workload(FRONTEND).chain, role);
            let is_caller = chain.role == PeerRole::Caller;
            let known = || us.peers().known(&chain.certificates, is_caller, certificate::unix_time(now())).is_some();
            assert!(!known());
            for _ in 0..2 {
                assert_eq!(us.root_behind(&chain, now()), Some((id(FRONTEND).trust_domain(), fingerprint(signer))));
                assert!(known());
            }
        }
    }
    assert_eq!(us.root_fingerprint(), Some(&fingerprint(&new)));
    let stranger = caller(&Signer::root("root").workload(FRONTEND));
    assert_eq!(us.root_behind(&stranger, now()), None);
}

#[test]
fn of_two_roots_by_one_key_the_one_that_ends_last_is_behind_a_peer() {
    let old = Signer::root("root");
    let new = old.renewed("root", |params| params.not_after += time::Duration::days(1));
    for roots in [[&old, &new], [&new, &old]] {
        let us = old.workload(BACKEND).identity(&roots, &[]);
        let (_, root) = us.root_behind(&caller(&old.workload(FRONTEND)), now()).unwrap();
        assert_eq!(*root, *certificate::sha256(&new.der));
    }
}
