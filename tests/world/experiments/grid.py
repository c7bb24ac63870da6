"""The best single scale of each network, by a grid: what people do by hand."""

from itertools import product

SCALES = [0.0, 0.25, 0.5, 0.75, 1.0]
# Up to so many points the grid is searched whole.
WHOLE = 125


def best(loss, networks, scales=SCALES):
    """(scales of the networks with the lowest loss, losses computed). `loss` takes a list of scales. Of many networks one
    after the other is brought to its best scale, from the best that all have in common, until nothing changes."""
    known = {}

    def of(point):
        if point not in known:
            known[point] = loss(list(point))
        return known[point]

    if len(scales) ** networks <= WHOLE:
        return list(min(product(scales, repeat=networks), key=of)), len(known)
    point, before = min(((scale,) * networks for scale in scales), key=of), None
    while point != before:
        before = point
        for network in range(networks):
            point = min((point[:network] + (scale,) + point[network + 1 :] for scale in scales), key=of)
    return list(point), len(known)
