#include "models/layers/batch_invariance.h"

#include <dlfcn.h>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <ATen/record_function.h>
#include <torch/torch.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <map>
#include <mutex>
#include <tuple>
#include <vector>

namespace espalier {
namespace {

std::atomic<bool> g_is_on = true;
thread_local int t_plain = 0;  // PlainProducts that live

// Tried from the middle both ways, until one differs; whole kRowSteps. Calls of more rows are no
// faster.
constexpr int64_t kMiddle = 256;
constexpr std::array<int64_t, 8> kFewer = {192, 128, 112, 64, 48, 32, 24, 16};
constexpr std::array<int64_t, 4> kMore = {400, 512, 768, 1024};
// Where oneDNN's choice for sums in bf16 begins to hang on more than whether rows are few.
constexpr int64_t kLongSum = 1536;
// Rows of a piece, so that each begins at a cache line whatever the width.
constexpr int64_t kRowStep = 16;
constexpr uintptr_t kCacheLine = 64;

// Of what follows, autograd, profiler and counter of operations see one product.
struct QuietCalls {
  const at::AutoDispatchBelowADInplaceOrView below_autograd;
  const at::DisableRecordFunctionGuard unrecorded;
};

// Libraries split sums by the number of threads that they could use, even within a parallel region,
// where they get none of them. While one lives, they see one.
class OneThread {
 public:
  OneThread() {
    if (omp().set == nullptr) return;
    threads_ = omp().most();
    omp().set(1);
    if (mkl() != nullptr) mkl_threads_ = mkl()(1);
  }
  ~OneThread() {
    if (omp().set == nullptr) return;
    omp().set(threads_);
    if (mkl() != nullptr) mkl()(mkl_threads_);
  }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  struct OpenMp {
    void (*set)(int);
    int (*most)();
  };
  template <class Function>
  static Function find(const char* name) {
    return reinterpret_cast<Function>(::dlsym(RTLD_DEFAULT, name));
  }
  // Both are in what LibTorch loads and not in what it offers; at::set_num_threads() would change
  // threads that start meanwhile too.
  static const OpenMp& omp() {
    static const OpenMp functions{find<void (*)(int)>("omp_set_num_threads"),
                                  find<int (*)()>("omp_get_max_threads")};
    return functions;
  }
  // Of the calling thread; returns what was set before.
  using SetMkl = int (*)(int);
  static SetMkl mkl() {
    static const auto function = find<SetMkl>("MKL_Set_Num_Threads_Local");
    return function;
  }

  int threads_ = 0;
  int mkl_threads_ = 0;
};

template <class Body>
void for_each_on_one_thread(int64_t count, const Body& body) {
  at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
    const QuietCalls quiet;
    const OneThread one;
    for (int64_t i = begin; i < end; ++i) body(i);
  });
}

// Rows whose products with each other are sums of terms that cancel: what is left of those is the
// rounding of the order in which they were added, which bf16 would hide otherwise. Terms of many
// sizes, so that even few of them are rounded.
at::Tensor cancelling_rows(int64_t rows, int64_t width, double sign, at::ScalarType type) {
  // A generator of its own: the run's random numbers stay what they are.
  const at::Generator generator = at::detail::createCPUGenerator(/*seed_val=*/width);
  const at::Tensor exponents = at::randint(-6, 7, {rows, width / 2}, generator, at::kFloat);
  const at::Tensor half =
      at::randn({rows, width / 2}, generator, at::kFloat).mul_(at::exp2(exponents));
  const at::Tensor middle = at::zeros({rows, width % 2}, at::kFloat);
  return at::cat({half, middle, half.flip(1) * sign}, 1).to(type);
}

CallRows measure(RowProduct product, const at::Tensor& weight) {
  const at::ScalarType type = weight.scalar_type();
  const at::Tensor x =
      cancelling_rows(kMiddle, weight.size(1), -1.0, type).repeat({kMore.back() / kMiddle, 1});
  const at::Tensor dense = cancelling_rows(weight.size(0), weight.size(1), 1.0, type);
  const at::Tensor like_weight =
      at::empty_strided(weight.sizes(), weight.strides(), dense.options());
  like_weight.copy_(dense);
  const at::Tensor expected = product(x.narrow(0, 0, kMiddle), like_weight);
  const auto agrees = [&](int64_t count) {
    const int64_t both = std::min(count, kMiddle);
    return product(x.narrow(0, 0, count), like_weight)
        .narrow(0, 0, both)
        .equal(expected.narrow(0, 0, both));
  };
  CallRows rows{kMiddle, kMiddle};
  for (const int64_t count : kFewer) {
    if (!agrees(count)) break;
    rows.fewest = count;
  }
  for (const int64_t count : kMore) {
    if (!agrees(count)) break;
    rows.most = count;
  }
  rows.are_all =
      type != at::kBFloat16 || (weight.size(1) <= kLongSum && rows.fewest == kFewer.back());
  if (!rows.are_all) {
    rows.fewest = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(rows.fewest)));
    rows.most = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(rows.most)));
  }
  return rows;
}

at::Tensor product_of_few(RowProduct product, const at::Tensor& x, const at::Tensor& weight,
                          int64_t rows) {
  const at::Tensor padded = at::zeros({rows, x.size(1)}, x.options());
  padded.narrow(0, 0, x.size(0)).copy_(x);
  return product(padded, weight).narrow(0, 0, x.size(0)).clone();
}

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct Piece {
  int64_t first, rows, call_rows;
};

// Pieces for the threads there are, if there are rows for them.
std::vector<Piece> split(int64_t rows, const CallRows& call) {
  const int64_t threads = at::in_parallel_region() ? 1 : at::get_num_threads();
  const int64_t needed = divide_up(divide_up(rows, call.most), threads) * threads;
  const int64_t count = std::max(divide_up(rows, call.most), std::min(needed, rows / call.fewest));
  const int64_t even = divide_up(divide_up(rows, count), kRowStep) * kRowStep;
  const int64_t step = std::clamp(even, call.fewest, call.most);
  std::vector<Piece> pieces;
  for (int64_t first = 0; first < rows;) {
    const int64_t left = rows - first;
    int64_t size = std::min(step, std::max(left, call.fewest));
    if (!call.are_all) {
      const auto whole = static_cast<uint64_t>(divide_up(size, call.fewest) * call.fewest);
      size = static_cast<int64_t>(std::bit_floor(whole));
    }
    pieces.push_back({first, std::min(size, left), size});
    first += size;
  }
  return pieces;
}

}  // namespace

void set_batch_invariant(bool is_on) { g_is_on = is_on; }
bool is_batch_invariant() { return g_is_on && t_plain == 0 && can_be_batch_invariant(); }

bool can_be_batch_invariant() {
#if defined(__x86_64__)
  static const bool is_known =
      __builtin_cpu_is("intel") != 0 && __builtin_cpu_supports("avx512f") != 0;
  return is_known;
#else
  return false;
#endif
}

PlainProducts::PlainProducts() { ++t_plain; }
PlainProducts::~PlainProducts() { --t_plain; }

CallRows invariant_call_rows(RowProduct product, const at::Tensor& weight) {
  using Key = std::tuple<RowProduct, at::ScalarType, int64_t, int64_t, int64_t, int64_t>;
  static std::mutex mutex;
  static std::map<Key, CallRows> known;
  const Key key(product, weight.scalar_type(), weight.size(0), weight.size(1), weight.stride(0),
                weight.stride(1));
  const std::scoped_lock lock(mutex);
  const auto found = known.find(key);
  if (found != known.end()) return found->second;
  CallRows rows;
  for_each_on_one_thread(1, [&](int64_t) { rows = measure(product, weight); });
  return known[key] = rows;
}

at::Tensor invariant_product(RowProduct product, const at::Tensor& x, const at::Tensor& weight) {
  const bool is_aligned = reinterpret_cast<uintptr_t>(x.const_data_ptr()) % kCacheLine == 0;
  const at::Tensor in = x.is_contiguous() && is_aligned ? x : x.clone(at::MemoryFormat::Contiguous);
  const int64_t rows = in.size(0);
  RECORD_FUNCTION("aten::mm", std::vector<c10::IValue>({in, weight.t()}));
  const std::vector<Piece> pieces = split(rows, invariant_call_rows(product, weight));
  at::Tensor out;
  if (pieces.size() > 1) out = at::empty({rows, weight.size(0)}, in.options());
  for_each_on_one_thread(std::ssize(pieces), [&](int64_t i) {
    const Piece& piece = pieces[static_cast<size_t>(i)];
    const at::Tensor part = in.narrow(0, piece.first, piece.rows);
    const at::Tensor result = piece.rows == piece.call_rows
                                  ? product(part, weight)
                                  : product_of_few(product, part, weight, piece.call_rows);
    if (pieces.size() == 1) {
      out = result;
    } else {
      out.narrow(0, piece.first, piece.rows).copy_(result);
    }
  });
  return out;
}

}  // namespace espalier
