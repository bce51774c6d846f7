#pragma once

// What the processor that runs this can do.
namespace espalier::kernels {

// Whether matrix products in bf16 are faster than in fp32: only where the processor has
// instructions for them (AVX512-BF16 or AMX-BF16). Elsewhere every product first widens its inputs,
// and training in bf16 is slower than in fp32.
bool bf16_is_fast();

}  // namespace espalier::kernels
