#pragma once

// What the processor that runs this can do.
namespace espalier::kernels {

// Whether matrix products in bf16 are faster than in fp32. Never without instructions for them
// (AVX512-BF16 or AMX-BF16): every product first widens its inputs. With them it is measured, once
// in a process: AVX512-BF16 doubles the rate of some processors and halves that of others.
bool bf16_is_fast();

// What bf16_is_fast() says from now on, so that all ranks of a run do the same.
void set_bf16_is_fast(bool is_fast);

}  // namespace espalier::kernels
