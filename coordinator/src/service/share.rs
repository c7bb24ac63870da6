//! Which worker works for which search: evenly, and with no move that changes nothing about that.
//!
//! Pure: what there is goes in, moves come out. Free workers go to the search that has fewest, the first of several;
//! then workers are moved as long as one search has at least two more than another. A worker that may not work for the
//! poorer of the two can still help: it goes to a third, which gives one of its own.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

/// A worker, as far as sharing goes. `S` names searches.
#[derive(Clone, Debug)]
pub(super) struct Hand<W, S> {
    pub(super) worker: W,
    /// What it works for.
    pub(super) at: Option<S>,
    /// Whether it has got ready, so that it costs more to move.
    pub(super) ready: bool,
    /// Searches that it must not be given.
    pub(super) barred: Vec<S>,
}

impl<W, S: PartialEq> Hand<W, S> {
    fn may_have(&self, search: &S) -> bool {
        !self.barred.contains(search)
    }
}

/// The moves that share the workers evenly over the searches that want some, which come in the order of their turn.
/// Workers whose search is not among them are not free: they are left alone.
pub(super) fn share<W: Copy + Ord, S: Clone + Ord>(searches: &[S], hands: &[Hand<W, S>]) -> Vec<(W, S)> {
    let mut table = Table::new(searches, hands);
    while table.give_free() || table.even_out() {}
    table.moves()
}

/// A worker with the place of its search among all, as it was and as it shall be; `None` if it is free.
struct Seat<'a, W, S> {
    hand: &'a Hand<W, S>,
    was: Option<usize>,
    to: Option<usize>,
}

struct Table<'a, W, S> {
    searches: &'a [S],
    seats: Vec<Seat<'a, W, S>>,
    /// The seats of each search.
    members: Vec<Vec<usize>>,
}

impl<'a, W: Copy + Ord, S: Clone + Ord> Table<'a, W, S> {
    fn new(searches: &'a [S], hands: &'a [Hand<W, S>]) -> Self {
        let places: BTreeMap<&S, usize> = searches.iter().zip(0..).collect();
        let mut members = vec![Vec::new(); searches.len()];
        let mut seats = Vec::with_capacity(hands.len());
        for hand in hands {
            let place = hand.at.as_ref().map(|search| places.get(search).copied());
            match place {
                Some(None) => {} // works for a search that is not shared for
                Some(Some(place)) => {
                    if let Some(members) = members.get_mut(place) {
                        members.push(seats.len());
                    }
                    seats.push(Seat { hand, was: Some(place), to: Some(place) });
                }
                None => seats.push(Seat { hand, was: None, to: None }),
            }
        }
        Self { searches, seats, members }
    }

    fn count(&self, place: usize) -> usize {
        self.members.get(place).map_or(0, Vec::len)
    }

    /// Gives one free worker to the poorest search that it may have. Whether there was one.
    fn give_free(&mut self) -> bool {
        let free = self.seats.iter().enumerate().filter(|(_, seat)| seat.to.is_none());
        let found = free.into_iter().find_map(|(at, seat)| {
            let open = self.searches.iter().enumerate().filter(|(_, search)| seat.hand.may_have(search));
            open.map(|(place, _)| place).min_by_key(|place| (self.count(*place), *place)).map(|place| (at, place))
        });
        found.inspect(|(at, place)| self.seat(*at, *place)).is_some()
    }

    fn seat(&mut self, at: usize, place: usize) {
        let Some(seat) = self.seats.get_mut(at) else { return };
        let left = seat.to.replace(place);
        if let Some(members) = left.and_then(|left| self.members.get_mut(left)) {
            members.retain(|member| *member != at);
        }
        if let Some(members) = self.members.get_mut(place) {
            members.push(at);
        }
    }

    /// Moves one worker's worth from a search to one that has at least two fewer, the poorest first. Whether it could.
    fn even_out(&mut self) -> bool {
        // Most often there is nothing to do, and many searches wait.
        let most = self.members.iter().map(Vec::len).max().unwrap_or_default();
        let mut poor: Vec<usize> = (0..self.searches.len()).filter(|place| self.count(*place) + 2 <= most).collect();
        poor.sort_by_key(|place| (self.count(*place), *place));
        let chain = poor.into_iter().find_map(|place| self.chain_to(place));
        for (at, place) in chain.iter().flatten() {
            self.seat(*at, *place);
        }
        chain.is_some()
    }

    /// The shortest chain of moves that ends at this search and begins at the richest with at least two more.
    fn chain_to(&self, poor: usize) -> Option<Vec<(usize, usize)>> {
        let enough = self.count(poor) + 2;
        // By which move a search passes one on towards the poor one.
        let mut next: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
        let mut seen = vec![false; self.searches.len()];
        if let Some(seen) = seen.get_mut(poor) {
            *seen = true;
        }
        let mut ring = VecDeque::from([poor]);
        while !ring.is_empty() {
            let mut reached = Vec::new();
            for place in ring.drain(..) {
                for giver in 0..self.searches.len() {
                    if self.count(giver) == 0 || seen.get(giver).is_none_or(|seen| *seen) {
                        continue;
                    }
                    if let (Some(at), Some(seen)) = (self.movable(giver, place), seen.get_mut(giver)) {
                        *seen = true;
                        next.insert(giver, (at, place));
                        reached.push(giver);
                    }
                }
            }
            let rich = reached.iter().copied().filter(|giver| self.count(*giver) >= enough);
            if let Some(rich) = rich.max_by_key(|giver| (self.count(*giver), Reverse(*giver))) {
                let step = |giver: &usize| next.get(giver).map(|(_, to)| *to);
                let givers = std::iter::successors(Some(rich), step);
                return Some(givers.filter_map(|giver| next.get(&giver).copied()).collect());
            }
            ring.extend(reached);
        }
        None
    }

    /// The worker of one search that goes to another most cheaply: one that has come in this round, or is not ready,
    /// or came last.
    fn movable(&self, from: usize, to: usize) -> Option<usize> {
        let search = self.searches.get(to)?;
        let members = self.members.get(from)?.iter().filter_map(|at| Some((*at, self.seats.get(*at)?)));
        let open = members.filter(|(_, seat)| seat.hand.may_have(search));
        let cost = |seat: &Seat<'_, W, S>| (seat.was == seat.to, seat.hand.ready, Reverse(seat.hand.worker));
        open.min_by_key(|(_, seat)| cost(seat)).map(|(at, _)| at)
    }

    fn moves(self) -> Vec<(W, S)> {
        let moved = self.seats.into_iter().filter(|seat| seat.was != seat.to);
        moved.filter_map(|seat| Some((seat.hand.worker, self.searches.get(seat.to?)?.clone()))).collect()
    }
}

#[cfg(test)]
mod tests;
