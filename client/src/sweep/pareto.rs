//! The Pareto front of two numbers that are both to be low.

/// Which points no other point beats: none is at most as high in both numbers and lower in one. Points that are not
/// finite are never on the front. Equal points are on it together.
pub(super) fn front(points: &[Option<(f64, f64)>]) -> Vec<bool> {
    let finite = |point: &Option<(f64, f64)>| point.filter(|(x, y)| x.is_finite() && y.is_finite());
    let mut order: Vec<(usize, (f64, f64))> =
        points.iter().enumerate().filter_map(|(place, point)| Some((place, finite(point)?))).collect();
    order.sort_by(|(_, a), (_, b)| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mut front = vec![false; points.len()];
    // From the lowest first number on, a point is on the front if its second is lower than all before; or if it equals
    // the last one that was.
    let mut last: Option<(f64, f64)> = None;
    for (place, point) in order {
        if last.is_none_or(|last| point.1 < last.1 || point == last) {
            last = Some(point);
            if let Some(on) = front.get_mut(place) {
                *on = true;
            }
        }
    }
    front
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn beats(a: (f64, f64), b: (f64, f64)) -> bool {
        a.0 <= b.0 && a.1 <= b.1 && a != b
    }

    /// Few different numbers, so that many are equal.
    fn points() -> impl Strategy<Value = Vec<Option<(f64, f64)>>> {
        let number = (0..6_i32).prop_map(f64::from);
        prop::collection::vec(prop::option::weighted(0.9, (number.clone(), number)), 0..20)
    }

    proptest! {
        #[test]
        fn exactly_those_that_none_beats_are_on_the_front(points in points()) {
            let all: Vec<(f64, f64)> = points.iter().flatten().copied().collect();
            for (point, on) in points.iter().zip(front(&points)) {
                let expected = point.is_some_and(|point| !all.iter().any(|other| beats(*other, point)));
                prop_assert_eq!(on, expected, "{:?}", point);
            }
        }

        #[test]
        fn there_is_a_front_wherever_there_is_a_point(points in points()) {
            prop_assert_eq!(front(&points).contains(&true), points.iter().any(Option::is_some));
        }

        #[test]
        fn the_order_of_the_points_changes_nothing(points in points(), turn in 0..20_usize) {
            let mut turned: Vec<_> = points.iter().zip(front(&points)).map(|(point, on)| (*point, on)).collect();
            let turn = if turned.is_empty() { 0 } else { turn % turned.len() };
            turned.rotate_left(turn);
            let (points, expected): (Vec<_>, Vec<_>) = turned.into_iter().unzip();
            prop_assert_eq!(front(&points), expected);
        }
    }

    #[test]
    fn what_is_no_number_is_not_on_the_front() {
        let points = [Some((f64::NAN, 0.0)), Some((1.0, f64::INFINITY)), Some((2.0, 2.0)), None];
        assert_eq!(front(&points), [false, false, true, false]);
        assert_eq!(front(&[]), [false; 0]);
    }

    #[test]
    fn negative_zero_is_zero() {
        assert_eq!(front(&[Some((0.0, 1.0)), Some((-0.0, 1.0)), Some((0.0, 2.0))]), [true, true, false]);
    }
}
