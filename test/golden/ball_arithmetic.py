"""Sixty digits of elementary functions, from mpmath, for test/verify/real.test.ts."""
import json
import pathlib

from mpmath import mp, mpc, mpf

mp.dps = 90
points = ["0.3", "2", "-4.25", "10", "-0.7", "1e-9", "123.456", "-31.4", "0.99999"]
rows = []
for text in points:
    x = mpf(text)
    rows.append({"f": "exp", "x": text, "y": mp.nstr(mp.exp(x), 60)})
    rows.append({"f": "sin", "x": text, "y": mp.nstr(mp.sin(x), 60)})
    rows.append({"f": "cos", "x": text, "y": mp.nstr(mp.cos(x), 60)})
    rows.append({"f": "atan", "x": text, "y": mp.nstr(mp.atan(x), 60)})
    if x > 0:
        rows.append({"f": "ln", "x": text, "y": mp.nstr(mp.log(x), 60)})
        rows.append({"f": "sqrt", "x": text, "y": mp.nstr(mp.sqrt(x), 60)})
    if abs(x) < 1:
        rows.append({"f": "asin", "x": text, "y": mp.nstr(mp.asin(x), 60)})
complexes = []
for re, im in [("0.5", "1.25"), ("-2", "0.75"), ("3", "-4")]:
    z = mpc(re, im)
    for name, value in [("exp", mp.exp(z)), ("ln", mp.log(z)), ("sqrt", mp.sqrt(z)), ("sin", mp.sin(z)), ("atan", mp.atan(z)), ("asin", mp.asin(z))]:
        complexes.append({"f": name, "re": re, "im": im, "y": [mp.nstr(value.real, 60), mp.nstr(value.imag, 60)]})
out = pathlib.Path(__file__).with_name("ball-arithmetic.json")
out.write_text(json.dumps({"pi": mp.nstr(mp.pi, 60), "real": rows, "complex": complexes}, indent=1) + "\n")
