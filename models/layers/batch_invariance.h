#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace espalier {

// Batch invariance: a row times a matrix has the same bits whatever rows are multiplied with it,
// so that a sequence has the hidden states in a packed batch that it has alone. Libraries do not
// give it: by the number of rows, and of threads, they choose kernels and blocks that add in other
// orders. On an Intel core with AMX: MKL below 16 rows, or 192 where the matrix is transposed;
// oneDNN in fp32 below about 130; in bf16 at scattered counts when sums are of 1600 and more. The
// place of a row among as many rows does not matter to them, nor where it lies in memory.
//
// Known for Intel's processors with AVX-512 alone. With AVX2 both libraries were seen to skip row
// counts that what is measured here does not find; AMD's were not measured.
bool can_be_batch_invariant();

// Process-wide, to be set before training; on, where it can be, unless switched off.
void set_batch_invariant(bool is_on);
bool is_batch_invariant();  // here and now

// While one lives, products of this thread are as the library makes them: where tokens come one by
// one, nobody compares a row with one of a batch, and padding few rows would double their cost.
class PlainProducts {
 public:
  PlainProducts();
  ~PlainProducts();
  PlainProducts(const PlainProducts&) = delete;
  PlainProducts& operator=(const PlainProducts&) = delete;
};

// x (N, I) times the transposed of weight (O, I), by a library.
using RowProduct = at::Tensor (*)(const at::Tensor& x, const at::Tensor& weight);

// Row counts with which a library gives a row the same bits: every count between these two, or,
// where libraries were seen to skip some, only the powers of two.
struct CallRows {
  int64_t fewest = 0;
  int64_t most = 0;
  bool are_all = true;
};
// For weights of this size, type and layout. Measured at the first use, on sums that cancel, and
// kept: costs a few products of a thousand rows.
CallRows invariant_call_rows(RowProduct product, const at::Tensor& weight);

// The same as product(x, weight), on the CPU in fp32 or bf16, from calls of such row counts, each
// on one thread; too few rows are padded with zeros. The bits do not depend on the number of
// threads either.
at::Tensor invariant_product(RowProduct product, const at::Tensor& x, const at::Tensor& weight);

}  // namespace espalier
