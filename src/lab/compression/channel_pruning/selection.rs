//! Which channels go: so many of each group, or so many of all, the lowest scores first, never all of a group.

/// Among which channels the least important are sought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// In each group by itself.
    PerLayer,
    /// In all groups together.
    Global,
}

/// For each channel of each group whether it goes when the share `ratio` does.
///
/// Of n channels ⌊n · ratio⌋ go, as in NNI, which leaves n - ⌊n · ratio⌋, and at least one of a group. What is `gone`
/// already comes first, whatever its score; among equals the first channel does. What stays of a group is then rounded up
/// to the next `multiple`, by taking the best of what would have gone back.
pub(super) fn removed(
    scores: &[Vec<f64>],
    gone: &[Vec<bool>],
    ratio: f64,
    scope: Scope,
    multiple: usize,
) -> Vec<Vec<bool>> {
    let mut taken: Vec<Vec<bool>> = scores
        .iter()
        .map(|group| vec![false; group.len()])
        .collect();
    let mut order = Vec::new();
    for (group, (scores, gone)) in scores.iter().zip(gone).enumerate() {
        let channels = scores.iter().zip(gone).enumerate();
        order.extend(channels.map(|(channel, (score, gone))| (!gone, *score, group, channel)));
    }
    order.sort_by(|a, b| {
        let by_score = a.0.cmp(&b.0).then(a.1.total_cmp(&b.1));
        by_score.then(a.2.cmp(&b.2)).then(a.3.cmp(&b.3))
    });
    let share = |n: usize| (n as f64 * ratio) as usize;
    let mut left: Vec<usize> = scores
        .iter()
        .map(|group| match scope {
            Scope::PerLayer => share(group.len()).min(group.len() - 1),
            Scope::Global => group.len() - 1,
        })
        .collect();
    let mut together = match scope {
        Scope::PerLayer => usize::MAX,
        Scope::Global => share(order.len()),
    };
    for &(stays, _, group, channel) in &order {
        let is_gone = !stays;
        if is_gone || (together > 0 && left[group] > 0) {
            taken[group][channel] = true;
            left[group] = left[group].saturating_sub(1);
            together = together.saturating_sub(1);
        }
    }
    for &(stays, _, group, channel) in order.iter().rev() {
        let kept = taken[group].iter().filter(|taken| !**taken).count();
        if stays && taken[group][channel] && !kept.is_multiple_of(multiple) {
            taken[group][channel] = false;
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(taken: &[Vec<bool>]) -> Vec<usize> {
        taken
            .iter()
            .map(|group| group.iter().filter(|taken| **taken).count())
            .collect()
    }

    fn nothing(scores: &[Vec<f64>]) -> Vec<Vec<bool>> {
        scores
            .iter()
            .map(|group| vec![false; group.len()])
            .collect()
    }

    fn of(scores: &[Vec<f64>], ratio: f64, scope: Scope) -> Vec<Vec<bool>> {
        removed(scores, &nothing(scores), ratio, scope, 1)
    }

    /// Python's int(n r): 32 at .8 leaves 7, 64 leaves 13, 128 leaves 26; int(.3 · 9) is 2.
    #[test]
    fn each_layer_loses_the_whole_part_of_its_share() {
        let scores: Vec<Vec<f64>> = [32, 64, 128, 9]
            .map(|n| (0..n).map(f64::from).collect())
            .into();
        let taken = of(&scores, 0.8, Scope::PerLayer);
        assert_eq!(counts(&taken), [25, 51, 102, 7]);
        assert!(taken[0][..25].iter().all(|taken| *taken));
        assert_eq!(counts(&of(&scores, 0.3, Scope::PerLayer))[3], 2);
        assert_eq!(counts(&of(&scores, 0.0, Scope::PerLayer)), [0; 4]);
    }

    #[test]
    fn the_lowest_of_all_go_but_never_a_whole_layer() {
        let scores = vec![vec![0.1, 0.2, 0.3], vec![1.0, 2.0, 3.0]];
        assert_eq!(counts(&of(&scores, 0.5, Scope::Global)), [2, 1]);
        assert_eq!(counts(&of(&scores, 0.34, Scope::Global)), [2, 0]);
        assert_eq!(counts(&of(&scores, 0.999, Scope::Global)), [2, 2]);
        assert_eq!(counts(&of(&scores, 0.999, Scope::PerLayer)), [2, 2]);
    }

    #[test]
    fn what_is_gone_stays_gone_and_counts() {
        let scores = vec![vec![0.1, 0.2, 0.3, 0.4]];
        let gone = vec![vec![false, false, false, true]];
        let taken = removed(&scores, &gone, 0.5, Scope::PerLayer, 1);
        assert_eq!(taken, [[true, false, false, true]]);
        let taken = removed(&scores, &gone, 0.0, Scope::PerLayer, 1);
        assert_eq!(taken, [[false, false, false, true]]);
    }

    #[test]
    fn what_stays_is_rounded_up_to_a_multiple() {
        let scores = vec![(0..20).map(f64::from).collect::<Vec<_>>()];
        let taken = removed(&scores, &nothing(&scores), 0.55, Scope::PerLayer, 8);
        assert_eq!(counts(&taken), [4]);
        assert!(taken[0][..4].iter().all(|taken| *taken));
        let few = vec![vec![1.0, 2.0, 3.0]];
        let taken = removed(&few, &nothing(&few), 0.9, Scope::Global, 8);
        assert_eq!(counts(&taken), [0], "three are no eight: all stay");
    }
}
