"""A calculator: arithmetic on integers and decimals, parsed by Python's `ast`.

Names, calls, attributes and subscripts are rejected, as are results of more than 60 digits.
"""

import ast
import operator
from collections.abc import Callable
from fractions import Fraction

from orchestra_ray.core.faults import Fault, FaultKind
from orchestra_ray.core.records import ToolRequest
from orchestra_ray.workers.tools.base import Reply

MAX_CHARACTERS = 200
MAX_DIGITS = 60


class CalculatorError(ValueError):
    """The expression cannot be computed; the message says why."""


def calculate(expression: str) -> str:
    """Returns the value of `expression`: exact if it is an integer, else to twelve digits."""
    if len(expression) > MAX_CHARACTERS:
        raise CalculatorError(f"the expression is longer than {MAX_CHARACTERS} characters")
    try:
        tree = ast.parse(expression.strip().replace("×", "*").replace("^", "**"), mode="eval")
    except (SyntaxError, ValueError):
        raise CalculatorError("not an arithmetic expression") from None
    return _write(_value(tree.body))


def _value(node: ast.expr) -> Fraction:
    match node:
        case ast.Constant(value=bool()):
            raise CalculatorError("only numbers can be computed with")
        case ast.Constant(value=int() | float() as number):
            try:
                return _bounded(Fraction(str(number)))
            except ValueError:  # a float past the largest reads as infinity
                raise CalculatorError("the number is too large") from None
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
            value = _value(operand)
            return -value if isinstance(sign, ast.USub) else value
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _bounded(_OPERATORS[type(op)](_value(left), _value(right)))
    raise CalculatorError(f"{type(node).__name__} is not arithmetic")


def _divide(a: Fraction, b: Fraction) -> Fraction:
    if b == 0:
        raise CalculatorError("division by zero")
    return a / b


def _floor_divide(a: Fraction, b: Fraction) -> Fraction:
    return Fraction(_divide(a, b).__floor__())


def _modulo(a: Fraction, b: Fraction) -> Fraction:
    return a - b * _floor_divide(a, b)


def _power(a: Fraction, b: Fraction) -> Fraction:
    if b.denominator != 1 or abs(b) > 100:
        raise CalculatorError("exponents are whole numbers up to 100")
    if a == 0 and b < 0:
        raise CalculatorError("division by zero")
    return a ** int(b)


def _bounded(value: Fraction) -> Fraction:
    limit = 10**MAX_DIGITS
    if abs(value.numerator) >= limit or value.denominator >= limit:
        raise CalculatorError(f"the result has more than {MAX_DIGITS} digits")
    return value


def _write(value: Fraction) -> str:
    return str(value.numerator) if value.denominator == 1 else f"{float(value):.12g}"


_OPERATORS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: _divide,
    ast.FloorDiv: _floor_divide,
    ast.Mod: _modulo,
    ast.Pow: _power,
}


class Calculator:
    """A `Tool` with the argument `expression`, timed on a simulated clock."""

    async def call(self, request: ToolRequest) -> Reply:
        try:
            text = calculate(request.arguments["expression"])
        except CalculatorError as error:
            raise Fault(FaultKind.BAD_INPUT, str(error)) from None
        return Reply(text, service_s=request.option.latency_s)

    async def close(self) -> None:
        pass
