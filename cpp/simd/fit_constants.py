"""Fit the polynomials of simd/math.h and kernels/low_precision.h and print their coefficients.

The lowest degree comes first.

Lawson's algorithm (iteratively reweighted least squares, C. L. Lawson, 1961) on Chebyshev nodes
gives the polynomial of smallest maximum *weighted* error, mostly the relative one; the coefficients
are then rounded to float32.

    python cpp/simd/fit_constants.py      # needs NumPy and mpmath
"""

import mpmath as mp
import numpy as np

mp.mp.dps = 40


def lawson(function, weight, low, high, degree, *, nodes=2000, rounds=400):
    """Minimise max |weight(x) * (p(x) - function(x))| over [low, high]."""
    x = (low + high) / 2 + (high - low) / 2 * np.cos(np.pi * (np.arange(nodes) + 0.5) / nodes)
    target = np.array([float(function(mp.mpf(float(v)))) for v in x])
    scale = np.array([float(weight(mp.mpf(float(v)))) for v in x])
    basis = np.vander(x, degree + 1, increasing=True)
    importance = np.ones(nodes) / nodes
    best, best_error = None, np.inf
    for _ in range(rounds):
        root = np.sqrt(importance) * scale
        solution = np.linalg.lstsq(basis * root[:, None], target * root, rcond=None)[0]
        residual = np.abs((basis @ solution - target) * scale)
        if residual.max() < best_error:
            best, best_error = solution, residual.max()
        importance *= residual
        importance /= importance.sum()
    return best, best_error


def show(name, coefficients, error):
    rounded = [np.float32(c) for c in coefficients]
    print(f"{name}: max weighted error {error:.2e} before rounding")
    for c in rounded:
        print(f"    {float(c).hex()}  // {c:.9g}")


def expm1_tail(r):  # (e^r - 1 - r) / r^2
    return (
        mp.nsum(lambda n: r**n / mp.factorial(n + 2), [0, mp.inf])
        if abs(r) < 1e-3
        else (mp.expm1(r) - r) / r**2
    )


def exp2_tail(r):  # (2^r - 1) / r
    return mp.log(2) if r == 0 else mp.expm1(r * mp.log(2)) / r


def log1p_tail(z):  # log((1+s)/(1-s)) = 2 s + s z tail(z), z = s^2
    if z < 1e-8:
        return mp.mpf(2) / 3 + 2 * z / 5
    s = mp.sqrt(z)
    return (mp.log((1 + s) / (1 - s)) - 2 * s) / (s * z)


def erf_small_tail(z):  # erf(x) = x + x tail(z), z = x^2
    if z < 1e-12:
        return 2 / mp.sqrt(mp.pi) - 1
    x = mp.sqrt(z)
    return mp.erf(x) / x - 1


def erf_large(t):  # erf(t) = 1 - e^(-t - t large(t))
    return -mp.log(mp.erfc(t)) / t - 1


def gelu_tail(t):  # Phi(-t) = 2^(-1 - t tail(t))
    if t < 1e-12:
        return mp.sqrt(2 / mp.pi) / mp.log(2)
    return (-mp.log(mp.ncdf(-t), 2) - 1) / t


def gelu_low_precision_weight(t):  # the absolute error of t Phi(-t)
    return t * t * mp.log(2) * mp.ncdf(-t)


def gelu_weight(t):  # errors matter beside x Phi(x), x > 0; a little also beside x Phi(x), x < 0
    return t * mp.log(2) * (mp.ncdf(-t) / mp.ncdf(t) + 1e-4)


half_ln2 = float(mp.log(2) / 2)
show("expm1", *lawson(expm1_tail, lambda r: abs(r**2 / mp.expm1(r)), -half_ln2, half_ln2, 4))
show("exp2", *lawson(exp2_tail, lambda r: abs(r) / 2**r, -0.5, 0.5, 4))
show("exp2, fine", *lawson(exp2_tail, lambda r: abs(r) / 2**r, -0.5, 0.5, 5))
show("log1p", *lawson(log1p_tail, lambda z: z / 2, 1e-9, 1 / 9, 4))
show(
    "erf, |x| < 0.92",
    *lawson(erf_small_tail, lambda z: 1 / (1 + erf_small_tail(z)), 1e-13, 0.8650, 6),
)
show("erf, |x| >= 0.92", *lawson(erf_large, lambda t: t * mp.erfc(t) / mp.erf(t), 0.91, 4.0, 7))
show("gelu", *lawson(gelu_tail, gelu_weight, 0.0, 5.5, 9))
show("gelu, low precision", *lawson(gelu_tail, gelu_low_precision_weight, 1e-3, 8.0, 4))
