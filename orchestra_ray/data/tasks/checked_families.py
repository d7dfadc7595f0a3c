"""Families of reasoning-gym whose scorers may run on answers outside the sandbox.

The list comes from a review of the sources of reasoning-gym 0.1.25. A family is listed if its
scorer
- evaluates nothing of the answer: no eval, exec, compile, parse_expr, sympify, pickle, subprocess;
- takes time and memory about linear in the length of the answer: no exponent, factor or repetition
  count from the answer, no regular expression with nested repetition. The product in
  `prime_factorization` is quadratic; at `scoring.MOST_CHARACTERS` it takes 0.1 s;
- prints nothing, and changes neither the task nor anything outside.

All other families are scored in the sandbox, and so is a family in doubt. A test checks the list
against the source of the installed release.

Families whose scorers accept junk answers are rejected before a run starts. A test gives junk
answers to all families.
"""

from collections.abc import Mapping

CHECKED_FAMILIES = frozenset(
    # The answer is compared with the reference as text.
    """
    ab acre aiw arc_1d base_conversion basic_arithmetic bf binary_alternation caesar_cipher
    circuit_logic color_cube_rotation count_bits count_primes course_schedule dice emoji_mystery
    family_relationships figlet_font gcd isomorphic_strings knights_knaves
    largest_island lcm leg_counting letter_counting letter_jumble list_functions mahjong_puzzle
    manipulate_matrix maze modulo_grid needle_haystack number_filtering number_sequence
    palindrome_generation path_star ransom_note rotate_matrix rotten_oranges self_reference
    sentence_reordering simple_equations simple_geometry spell_backward string_manipulation
    string_splitting string_synthesis syllogism tsumego word_ladder word_sequence_reversal
    word_sorting zebra_puzzles
    """.split()
    # It is parsed as numbers: by int, which takes 4300 digits, float or Decimal.
    + """
    advanced_geometry calendar_arithmetic chain_sum decimal_arithmetic decimal_chain_sum
    fraction_simplification gsm_symbolic number_format polynomial_equations power_function
    prime_factorization products rectangle_count time_intervals
    """.split()
    # It is parsed as a grid, as moves or as JSON.
    + """
    arc_agi cryptarithm futoshiki game_of_life graph_color group_anagrams jugs kakurasu mini_sudoku
    rearc shortest_path sudoku survo
    """.split()
)

# By family, the answer that its scorer accepts for every task.
TAKES_JUNK: Mapping[str, str] = {
    "game_of_life_halting": "any answer",  # bool(answer) == bool("False")
    "coin_flip": "0",  # a full score for any prefix of the reference, which starts with "0."
}
