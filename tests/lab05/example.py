"""The ring of the assignment's example, with identifiers of five bits."""

EXAMPLE = [24, 26, 2, 16, 31, 25]  # the ids of its nodes, in the order in which they join
CLOCKWISE = sorted(EXAMPLE)
FINGERS = {
    2: [16, 24],
    16: [24, 2],
    24: [25, 26, 31, 2, 16],
    25: [26, 31, 2, 16],
    26: [31, 2, 16],
    31: [2, 16],
}
