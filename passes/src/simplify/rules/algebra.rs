//! Algebra. Constants move outwards and meet; general associativity is left out, since sums of a
//! layer do not become cheaper by it.

use super::Is::Constant;

super::rules! {
    "add-commutes": "(add ?x ?y)" => "(add ?y ?x)";                                        // x + y = y + x
    "mul-commutes": "(mul ?x ?y)" => "(mul ?y ?x)";                                        // x·y = y·x
    "add-constants": "(add (add ?x ?c) ?d)" => "(add ?x (add ?c ?d))" where "?c": Constant, "?d": Constant; // (x + c) + d = x + (c + d)
    "mul-constants": "(mul (mul ?x ?c) ?d)" => "(mul ?x (mul ?c ?d))" where "?c": Constant, "?d": Constant; // (x·c)·d = x·(c·d)
    "add-outwards": "(add (add ?x ?c) ?y)" => "(add (add ?x ?y) ?c)" where "?c": Constant; // (x + c) + y = (x + y) + c
    "mul-outwards": "(mul (mul ?x ?c) ?y)" => "(mul (mul ?x ?y) ?c)" where "?c": Constant; // (x·c)·y = (x·y)·c
    "distribute": "(mul (add ?x ?c) ?d)" => "(add (mul ?x ?d) (mul ?c ?d))" where "?c": Constant, "?d": Constant; // (x + c)·d = x·d + c·d
    "factor": "(add (mul ?x ?z) (mul ?y ?z))" => "(mul (add ?x ?y) ?z)";                   // x·z + y·z = (x + y)·z
    "div-product": "(div ?x ?y)" => "(mul ?x (reciprocal ?y))";                            // x/y = x·(1/y)
    "product-div": "(mul ?x (reciprocal ?y))" => "(div ?x ?y)";                            // x·(1/y) = x/y
    "rsqrt": "(reciprocal (sqrt ?x))" => "(rsqrt ?x)";                                     // 1/√x = rsqrt x
    "sub-neg": "(add ?x (neg ?y))" => "(sub ?x ?y)";                                       // x + (-y) = x - y
    "sub-constant": "(sub ?x ?c)" => "(add ?x (neg ?c))" where "?c": Constant;             // x - c = x + (-c)
    "neg-sub": "(neg (sub ?x ?y))" => "(sub ?y ?x)";                                       // -(x - y) = y - x
    "neg-neg": "(neg (neg ?x))" => "?x";                                                   // -(-x) = x
    "neg-product": "(neg (mul ?x ?c))" => "(mul ?x (neg ?c))" where "?c": Constant;        // -(x·c) = x·(-c)
    "minus-one": "(mul ?x -1)" => "(neg ?x)";                                              // x·(-1) = -x
    "double": "(add ?x ?x)" => "(mul ?x 2)";                                               // x + x = 2x
    "one-product": "(mul ?x 1)" => "?x";                                                   // x·1 = x
    "zero-sum": "(add ?x 0)" => "?x";                                                      // x + 0 = x
    "exp-product": "(mul (exp ?x) (exp ?y))" => "(exp (add ?x ?y))";                       // eˣ·eʸ = e^(x+y)
    "exp-reciprocal": "(reciprocal (exp ?x))" => "(exp (neg ?x))";                         // 1/eˣ = e^-x
    "log-exp": "(log (exp ?x))" => "?x";                                                   // ln eˣ = x
    "linear-scale": "(linear (mul ?x ?c) ?w)" => "(mul (linear ?x ?w) ?c)" where "?c": Constant; // (c·x)·Wᵀ = c·(x·Wᵀ)
}
