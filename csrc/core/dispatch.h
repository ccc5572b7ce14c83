// From a run-time dtype to a compile-time storage type.
#pragma once

#include "half.h"
#include "view.h"

namespace dlaccel {

// Calls body.operator()<S>() with S = double, float, f16 or bf16.
template <class Body>
void visit_floating(DType dtype, Body&& body) {
  switch (dtype) {
    case DType::f64: return body.template operator()<double>();
    case DType::f32: return body.template operator()<float>();
    case DType::f16: return body.template operator()<f16>();
    case DType::bf16: return body.template operator()<bf16>();
    default: require(false, "dtype must be float64, float32, bfloat16 or float16.");
  }
}

}  // namespace dlaccel
