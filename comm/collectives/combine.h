#pragma once

#include <cstdint>

namespace espalier::combine {

enum class Type { kFloat, kDouble, kBFloat16, kInt32, kInt64, kUint8 };
enum class Op { kSum, kMax, kMin };

// into[i] = into[i] op from[i], for `count` elements; bfloat16 in float. Whatever else is equal, a
// not-a-number wins.
using Function = void (*)(void* into, const void* from, int64_t count);
Function function_of(Type type, Op op);

}  // namespace espalier::combine
