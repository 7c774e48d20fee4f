//! What stays where there is not room for all that is pinned: arithmetic only.

/// Of each pin, given by the bytes that its files need, how many files find room, the first ones of it. What was pinned
/// first comes first: what fitted when it was pinned is not driven out by a pin that came later.
pub(super) fn fitting(pins: &[Vec<u64>], room_bytes: u64) -> Vec<usize> {
    let mut left = room_bytes;
    let fits = |need: &u64| match left.checked_sub(*need) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    };
    let mut fits = fits;
    pins.iter()
        .map(|files| files.iter().take_while(|need| fits(need)).count())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_chosen_where_there_is_room_for_all() {
        assert_eq!(fitting(&[vec![1, 2], vec![3]], 6), [2, 1]);
        assert_eq!(fitting(&[], 0), [0_usize; 0]);
        assert_eq!(fitting(&[vec![0, 0]], 0), [2]);
    }

    #[test]
    fn what_was_pinned_first_keeps_its_place_and_a_smaller_one_takes_what_is_left() {
        assert_eq!(fitting(&[vec![4, 4], vec![1, 1, 1]], 10), [2, 2]);
        assert_eq!(fitting(&[vec![4, 9], vec![1, 1]], 10), [1, 2]);
        assert_eq!(fitting(&[vec![11], vec![11]], 10), [0, 0]);
    }
}
