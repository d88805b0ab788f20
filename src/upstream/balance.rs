//! Whose turn it is among the servers of an application. Pure: from numbers to a number.

use std::net::IpAddr;

/// Some of the servers, of which there are 64 at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Set(u64);

impl Set {
    pub(super) fn add(&mut self, number: usize) {
        self.0 |= 1 << number;
    }

    pub(super) fn has(self, number: usize) -> bool {
        self.0 & (1 << number) != 0
    }

    fn iter(self) -> impl Iterator<Item = usize> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let next = (left != 0).then(|| left.trailing_zeros() as usize)?;
            left &= left - 1;
            Some(next)
        })
    }
}

impl FromIterator<usize> for Set {
    fn from_iter<I: IntoIterator<Item = usize>>(numbers: I) -> Self {
        let mut set = Self::default();
        numbers.into_iter().for_each(|number| set.add(number));
        set
    }
}

/// How reluctantly a server is asked: the least comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Reluctance {
    /// It failed lately.
    pub(super) is_out: bool,
    /// It failed this very request.
    pub(super) was_asked: bool,
    pub(super) is_backup: bool,
}

/// Those that are asked first.
pub(super) fn foremost(servers: impl Iterator<Item = (usize, Reluctance)>) -> Set {
    let (mut set, mut least) = (Set::default(), None);
    for (number, reluctance) in servers {
        if least.is_none_or(|least| reluctance < least) {
            (set, least) = (Set::default(), Some(reluctance));
        }
        if least == Some(reluctance) {
            set.add(number);
        }
    }
    set
}

/// Who has had how much of the turns so far.
#[derive(Debug)]
pub(super) struct Turns(Vec<i64>);

impl Turns {
    pub(super) fn of(servers: usize) -> Self {
        Self(vec![0; servers])
    }

    /// Each gains its weight, and who has the most pays for all: so a heavy one is not asked many times in a row.
    pub(super) fn next(&mut self, among: Set, weight: impl Fn(usize) -> u32) -> Option<usize> {
        let mut total = 0;
        for number in among.iter() {
            let weight = i64::from(weight(number));
            self.0[number] += weight;
            total += weight;
        }
        // Of equals the first.
        let chosen = among.iter().reduce(|best, other| if self.0[other] > self.0[best] { other } else { best })?;
        self.0[chosen] -= total;
        Some(chosen)
    }
}

/// Those with the fewest requests for their weight.
pub(super) fn fewest(among: Set, load: impl Fn(usize) -> (usize, u32)) -> Set {
    let is_less = |(one, its_weight): (usize, u32), (other, other_weight): (usize, u32)| {
        one as u128 * u128::from(other_weight) < other as u128 * u128::from(its_weight)
    };
    among.iter().filter(|one| !among.iter().any(|other| is_less(load(other), load(*one)))).collect()
}

/// The server that a client is bound to (rendezvous hashing): each draws a lot for the client, and the luckiest has it,
/// so that one that goes leaves the clients of all others where they are. A server is known by the hash of its address,
/// so the order in which they are written does not matter.
pub(super) fn bound(among: Set, client: u64, server: impl Fn(usize) -> (u64, u32)) -> Option<usize> {
    let waits = |number| {
        let (hash, weight) = server(number);
        // Between 0 and 1, without either.
        let lot = ((mix(hash ^ mix(client)) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        -lot.ln() / f64::from(weight)
    };
    among.iter().map(|number| (number, waits(number))).min_by(|one, other| one.1.total_cmp(&other.1)).map(|one| one.0)
}

/// What is hashed of a client: an IPv4 address, or the /64 of IPv6 that one subscriber has.
pub(super) fn client_key(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
    }
}

/// Spreads all bits over all others (the end of SplitMix64). It must not change: clients would move.
fn mix(bits: u64) -> u64 {
    let bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(numbers: &[usize]) -> Set {
        numbers.iter().copied().collect()
    }

    #[test]
    fn turns_go_by_weight_and_do_not_come_in_heaps() {
        let weights = [5, 1, 1];
        let mut turns = Turns::of(3);
        let mut next = |among: &[usize]| turns.next(set(among), |number| weights[number]).unwrap();
        let one_round: Vec<_> = (0..7).map(|_| next(&[0, 1, 2])).collect();
        assert_eq!(one_round, [0, 0, 1, 0, 2, 0, 0]);
        let without_the_first: Vec<_> = (0..4).map(|_| next(&[1, 2])).collect();
        assert_eq!(without_the_first, [1, 2, 1, 2]);
        assert_eq!(Turns::of(3).next(Set::default(), |_| 1), None);
    }

    #[test]
    fn the_fewest_requests_are_counted_by_weight() {
        for (load, expected) in [
            ([(3, 1), (2, 1), (9, 1)], &[1][..]),
            ([(3, 1), (2, 1), (4, 3)], &[2]),
            ([(0, 1), (0, 5), (1, 1)], &[0, 1]),
            ([(2, 2), (1, 1), (9, 9)], &[0, 1, 2]),
        ] {
            assert_eq!(fewest(set(&[0, 1, 2]), |number| load[number]), set(expected), "for {load:?}");
        }
        assert_eq!(fewest(set(&[0, 2]), |number| [(3, 1), (2, 1), (9, 1)][number]), set(&[0]));
    }

    #[test]
    fn who_failed_comes_after_who_did_not_and_backups_after_both() {
        let reluctance = |text: &str| Reluctance {
            is_out: text.contains('o'),
            was_asked: text.contains('a'),
            is_backup: text.contains('b'),
        };
        for (servers, expected) in [
            (["", "", "b"], &[0, 1][..]),
            (["o", "", "b"], &[1]),
            (["o", "o", "b"], &[2]),
            (["o", "a", "b"], &[2]),  // a backup rather than who just failed this request
            (["o", "a", "ob"], &[1]), // who just failed rather than those who fail
            (["oa", "o", "oa"], &[1]),
            (["o", "o", "ob"], &[0, 1]),
        ] {
            let found = foremost(servers.iter().map(|text| reluctance(text)).enumerate());
            assert_eq!(found, set(expected), "for {servers:?}");
        }
        assert_eq!(foremost(std::iter::empty()), Set::default());
    }

    const SERVERS: [(u64, u32); 4] =
        [(0x1111_2222_3333_4444, 1), (0x9999_8888_7777_6666, 1), (0x0123_4567_89ab_cdef, 1), (0xfeed, 1)];

    fn homes(among: &[usize], servers: &[(u64, u32)]) -> Vec<usize> {
        (0..10_000).map(|client| bound(set(among), client, |number| servers[number]).unwrap()).collect()
    }

    #[test]
    fn only_the_clients_of_a_server_that_goes_move() {
        let before = homes(&[0, 1, 2, 3], &SERVERS);
        let after = homes(&[0, 1, 3], &SERVERS);
        let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
        assert_eq!(moved, before.iter().filter(|home| **home == 2).count());
        for server in [0, 1, 3] {
            let received =
                before.iter().zip(&after).filter(|(before, after)| **before == 2 && **after == server).count();
            assert!((moved / 4..moved / 2).contains(&received), "{server} gets {received} of {moved}");
        }
    }

    #[test]
    fn clients_are_spread_by_weight() {
        let mut servers = SERVERS;
        for (weight, expected) in [(1, 2_500), (2, 4_000), (6, 6_667)] {
            servers[1].1 = weight;
            let found = homes(&[0, 1, 2, 3], &servers).iter().filter(|home| **home == 1).count();
            assert!(found.abs_diff(expected) < 250, "with weight {weight} {found} and not {expected}");
        }
    }

    #[test]
    fn a_client_keeps_its_server_over_restarts_and_releases() {
        let homes: Vec<_> = homes(&[0, 1, 2, 3], &SERVERS).into_iter().take(12).collect();
        assert_eq!(homes, [1, 1, 0, 0, 2, 2, 0, 0, 2, 2, 3, 0]);
    }

    #[test]
    fn a_client_is_an_ipv4_address_or_a_subscribers_network() {
        let key = |text: &str| client_key(text.parse().unwrap());
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:3:4:5:6"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
    }
}
