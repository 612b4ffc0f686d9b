# Python: what the C library's mathematics gives; its code depends on the processor's flags, its results must not.
import math
import random

random.seed(7)
functions = (math.sin, math.cos, math.tan, math.exp, math.expm1, math.atan, math.sinh, math.tanh, math.erf, math.asinh, math.cbrt)
positive = (math.log, math.log2, math.log10, math.log1p, math.gamma, math.lgamma)
for i in range(150):
    x = random.uniform(-20, 20)
    print("%r" % x, *("%.15g" % f(x) for f in functions), *("%.15g" % f(abs(x)) for f in positive), "%.15g" % abs(x) ** 1.7)
