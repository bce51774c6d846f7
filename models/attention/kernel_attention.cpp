#include "models/attention/kernel_attention.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <memory>
#include <new>

#include "models/attention/kernel_plan.h"
#include "models/kernels/tensor_pointers.h"

namespace espalier {
namespace {

using kernels::AttentionComponent;
using kernels::pointer;
using kernels::with_kernel_type;

// Few rows a unit: more units to a piece of work, so that handing them out costs little.
constexpr int64_t kRowsPerTask = 512;

// A vector that lies across two cache lines takes twice as long to load.
constexpr std::align_val_t kCacheLine{64};
struct FreeScratch {
  void operator()(float* memory) const { ::operator delete(memory, kCacheLine); }
};
using Scratch = std::unique_ptr<float[], FreeScratch>;

struct Unit {
  const AttentionComponent& component;
  int64_t sample;
  int64_t kv_head;
};

kernels::AttentionShape shape_of(const AttentionHeads& heads, const RotaryTable& table,
                                 const KernelPlan& plan) {
  return {heads.heads,
          heads.kv_heads,
          heads.head_dim,
          pointer<float>(table.cosines),
          pointer<float>(table.sines),
          plan.positions.data()};
}

// body(unit, scratch), in parallel.
template <class Body>
void for_units(const AttentionMask& mask, const AttentionHeads& heads, int64_t scratch_floats,
               const Body& body) {
  const std::vector<AttentionComponent>& components = mask.kernel_plan().components;
  const auto count = std::ssize(components);
  if (count == 0) return;
  const int64_t units = mask.samples() * count * heads.kv_heads;
  const int64_t grain = std::max<int64_t>(1, kRowsPerTask * count / mask.sample_rows());
  at::parallel_for(0, units, grain, [&](int64_t begin, int64_t end) {
    const Scratch scratch(static_cast<float*>(
        ::operator new(static_cast<size_t>(scratch_floats) * sizeof(float), kCacheLine)));
    for (int64_t i = begin; i < end; ++i) {
      const int64_t part = i / heads.kv_heads;
      body(Unit{components[static_cast<size_t>(part % count)], part / count, i % heads.kv_heads},
           scratch.get());
    }
  });
}

template <class T>
kernels::RowsOf<T> rows_at(const at::Tensor& all, int64_t first) {
  TORCH_INTERNAL_ASSERT(all.stride(1) == 1);
  T* data = static_cast<T*>(all.data_ptr());
  return {data + first * all.stride(0), all.stride(0)};
}

template <class T>
kernels::AttentionInputs<T> inputs_of(const AttentionRows& rows, const AttentionMask& mask,
                                      int64_t sample) {
  const int64_t first = sample * mask.sample_rows();
  return {rows_at<const T>(rows.q, sample * mask.sample_queries()), rows_at<const T>(rows.k, first),
          rows_at<const T>(rows.v, first)};
}

template <class Floats>
int64_t most(const KernelPlan& plan, const kernels::AttentionShape& shape, const Floats& floats) {
  int64_t most = 0;
  for (const AttentionComponent& component : plan.components) {
    most = std::max(most, floats(shape, component));
  }
  return most;
}

}  // namespace

bool has_attention_kernel(const at::Tensor& rows, const AttentionHeads& heads) {
  return kernels::has_kernel_type(rows) && heads.head_dim % simd::kLanes == 0;
}

KernelResult kernel_attention(const AttentionRows& rows, const AttentionMask& mask,
                              const AttentionHeads& heads, const RotaryTable& table) {
  const KernelResult result{
      at::empty({mask.queries(), heads.heads * heads.head_dim}, rows.q.options()),
      at::empty({mask.queries(), heads.heads}, rows.q.options().dtype(at::kFloat))};
  const KernelPlan& plan = mask.kernel_plan();
  const kernels::AttentionShape shape = shape_of(heads, table, plan);
  with_kernel_type(result.out.scalar_type(), [&](auto type) {
    using T = decltype(type);
    for_units(mask, heads, most(plan, shape, kernels::forward_scratch_floats),
              [&](const Unit& unit, float* scratch) {
                const int64_t query = unit.sample * mask.sample_queries();
                kernels::block_attention(
                    shape, unit.component, unit.kv_head, inputs_of<T>(rows, mask, unit.sample),
                    kernels::AttentionOutputs<T>{rows_at<T>(result.out, query),
                                                 rows_at<float>(result.log_sum, query)},
                    scratch);
              });
  });
  return result;
}

void kernel_attention_backward(const AttentionRows& rows, const AttentionMask& mask,
                               const AttentionHeads& heads, const RotaryTable& table,
                               const KernelResult& result, const at::Tensor& grad_out,
                               const AttentionRows& grads) {
  const KernelPlan& plan = mask.kernel_plan();
  const kernels::AttentionShape shape = shape_of(heads, table, plan);
  with_kernel_type(result.out.scalar_type(), [&](auto type) {
    using T = decltype(type);
    for_units(mask, heads, most(plan, shape, kernels::backward_scratch_floats),
              [&](const Unit& unit, float* scratch) {
                const int64_t query = unit.sample * mask.sample_queries();
                const int64_t row = unit.sample * mask.sample_rows();
                kernels::block_attention_backward(
                    shape, unit.component, unit.kv_head, inputs_of<T>(rows, mask, unit.sample),
                    kernels::AttentionGradients<T>{
                        rows_at<const T>(result.out, query), rows_at<const T>(grad_out, query),
                        rows_at<const float>(result.log_sum, query), rows_at<T>(grads.q, query),
                        rows_at<T>(grads.k, row), rows_at<T>(grads.v, row)},
                    scratch);
              });
  });
}

}  // namespace espalier
