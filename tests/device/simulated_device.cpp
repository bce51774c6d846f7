#include "tests/device/simulated_device.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/alloc_cpu.h>
#include <torch/library.h>
#include <torch/torch.h>

#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <set>
#include <sstream>

#include "tests/device/pinned_memory.h"

namespace espalier {
namespace {

constexpr auto kKind = c10::DeviceType::PrivateUse1;

std::mutex traffic_mutex;
DeviceTraffic all_traffic;

void count_wait(const std::string& reason) {
  const std::lock_guard lock(traffic_mutex);
  ++all_traffic.waits;
  all_traffic.reasons.push_back(reason);
}

void count_upload(const at::Tensor& from, bool non_blocking) {
  const bool is_pinned = from.is_pinned();
  const std::lock_guard lock(traffic_mutex);
  ++all_traffic.uploads;
  all_traffic.pageable_uploads += !is_pinned || !non_blocking;
  all_traffic.uploaded_bytes += static_cast<int64_t>(from.nbytes());
}

// Results whose size, or whose worth as a number, the host must know.
bool makes_host_wait(const std::string& operation) {
  static const std::set<std::string> waiting = {"aten::nonzero",
                                                "aten::nonzero_numpy",
                                                "aten::masked_select",
                                                "aten::equal",
                                                "aten::is_nonzero",
                                                "aten::_unique",
                                                "aten::_unique2",
                                                "aten::unique_dim",
                                                "aten::unique_consecutive",
                                                "aten::bincount",
                                                "aten::repeat_interleave.Tensor"};
  return waiting.contains(operation);
}

struct HostAllocator : c10::Allocator {
  explicit HostAllocator(bool is_pinned) : is_pinned_(is_pinned) {}
  c10::DataPtr allocate(size_t bytes) override {
    if (is_pinned_) return PinnedMemory::get().allocate(bytes);
    void* const data = c10::alloc_cpu(bytes);
    return {data, data, &c10::free_cpu, c10::Device(kKind, 0)};
  }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    std::memcpy(to, from, bytes);
  }
  c10::DeleterFnPtr raw_deleter() const override { return is_pinned_ ? nullptr : &c10::free_cpu; }
  bool is_pinned_;
};

HostAllocator& memory(bool is_pinned) {
  static HostAllocator pinned(true), own(false);
  return is_pinned ? pinned : own;
}

struct Hooks : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  void setCurrentDevice(c10::DeviceIndex) const override {}
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex) const override { return 0; }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex) const override { return 0; }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override {
    static const at::Generator generator = at::detail::createCPUGenerator();
    return generator;
  }
  bool isPinnedPtr(const void* data) const override { return PinnedMemory::get().contains(data); }
  c10::Allocator* getPinnedMemoryAllocator() const override { return &memory(true); }
};

struct RecordedEvent {
  std::chrono::steady_clock::time_point time;
};

// Work is done when it is asked for, so streams and events only have to be there.
struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kKind; }
  c10::Device exchangeDevice(c10::Device) const override { return getDevice(); }
  c10::Device getDevice() const override { return {kKind, 0}; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  c10::Stream getStream(c10::Device) const override {
    return c10::Stream(c10::Stream::UNSAFE, getDevice(), current());
  }
  c10::Stream getDefaultStream(c10::Device) const override {
    return c10::Stream(c10::Stream::DEFAULT, getDevice());
  }
  c10::Stream getStreamFromGlobalPool(c10::Device, bool) const override {
    static std::atomic<c10::StreamId> next{1};
    return c10::Stream(c10::Stream::UNSAFE, getDevice(), next++);
  }
  c10::Stream exchangeStream(c10::Stream stream) const override {
    const c10::Stream before = getStream(getDevice());
    current() = stream.id();
    return before;
  }
  void record(void** event, const c10::Stream&, const c10::DeviceIndex,
              const c10::EventFlag) const override {
    if (*event == nullptr) *event = new RecordedEvent;
    static_cast<RecordedEvent*>(*event)->time = std::chrono::steady_clock::now();
  }
  void destroyEvent(void* event, const c10::DeviceIndex) const noexcept override {
    delete static_cast<RecordedEvent*>(event);
  }
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeEvent(void*) const override { count_wait("event"); }
  void synchronizeStream(const c10::Stream&) const override { count_wait("stream"); }
  void synchronizeDevice(const c10::DeviceIndex) const override { count_wait("device"); }
  double elapsedTime(void* from, void* to, const c10::DeviceIndex) const override {
    return std::chrono::duration<double, std::milli>(static_cast<RecordedEvent*>(to)->time -
                                                     static_cast<RecordedEvent*>(from)->time)
        .count();
  }

 private:
  static c10::StreamId& current() {
    thread_local c10::StreamId id = 0;
    return id;
  }
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard)

const bool is_registered = [] {
  c10::register_privateuse1_backend("simulated");
  c10::SetAllocator(kKind, &memory(false));
  static Hooks hooks;
  at::RegisterPrivateUse1HooksInterface(&hooks);
  return true;
}();

bool is_simulated(const at::Tensor& tensor) {
  return tensor.defined() && tensor.device().type() == kKind;
}

// The same memory as a tensor of the CPU. One without elements may be given some.
at::Tensor as_host(const at::Tensor& tensor) {
  if (!is_simulated(tensor)) return tensor;
  const auto options = tensor.options().device(at::kCPU);
  if (tensor.numel() == 0) return at::empty_strided(tensor.sizes(), tensor.strides(), options);
  return at::from_blob(tensor.data_ptr(), tensor.sizes(), tensor.strides(), options);
}

// The other way round; the memory lives as long as either.
c10::Storage as_simulated(const c10::Storage& host) {
  auto* owner = new c10::Storage(host);
  c10::DataPtr data(
      const_cast<void*>(host.data()), owner, [](void* p) { delete static_cast<c10::Storage*>(p); },
      simulated_device());
  return c10::Storage(c10::make_intrusive<c10::StorageImpl>(
      c10::StorageImpl::use_byte_size_t(), host.nbytes(), std::move(data), nullptr, false));
}

at::Tensor as_simulated(const at::Tensor& host) {
  at::Tensor tensor = at::detail::make_tensor<c10::TensorImpl>(
      as_simulated(host.storage()), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
      host.dtype());
  tensor.unsafeGetTensorImpl()->set_storage_offset(host.storage_offset());
  tensor.unsafeGetTensorImpl()->set_sizes_and_strides(host.sizes(), host.strides());
  return tensor;
}

// Runs an operation's CPU kernel on the same memory.
class HostCall {
 public:
  explicit HostCall(const c10::OperatorHandle& operation) : operation_(operation) {}

  void run(torch::jit::Stack* stack) {
    const auto arguments = static_cast<int64_t>(operation_.schema().arguments().size());
    for (auto& value : torch::jit::last(*stack, static_cast<size_t>(arguments)).vec()) {
      converted_.push_back(to_host(value));
    }
    torch::jit::drop(*stack, static_cast<size_t>(arguments));
    torch::jit::Stack host(converted_);
    operation_.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), &host);
    for (const c10::IValue& result : host) stack->push_back(to_device(result));
    for (const auto& [of_host, of_device] : pairs_) take_new_size(of_host, of_device);
  }

 private:
  at::Tensor host_of(const at::Tensor& tensor) {
    if (!is_simulated(tensor)) {
      TORCH_CHECK(!tensor.defined() || tensor.dim() == 0, operation_.schema().name(),
                  " was given a tensor of the CPU beside those of a device");
      return tensor;
    }
    at::Tensor host = as_host(tensor);
    pairs_.emplace_back(host, tensor);
    return host;
  }
  c10::IValue to_host(const c10::IValue& value) {
    if (value.isTensor()) return host_of(value.toTensor());
    if (value.isDevice() && value.toDevice().type() == kKind) return c10::Device(c10::kCPU);
    if (value.isTensorList()) {
      c10::List<at::Tensor> list;
      for (const at::Tensor& tensor : value.toTensorVector()) list.push_back(host_of(tensor));
      return list;
    }
    if (value.isOptionalTensorList()) {
      c10::List<std::optional<at::Tensor>> list;
      for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorVector()) {
        // Indices alone may lie in host memory; they travel each time.
        const bool travels = tensor && tensor->defined() && !is_simulated(*tensor);
        if (travels) count_upload(*tensor, /*non_blocking=*/false);
        list.push_back(!tensor ? std::nullopt
                               : std::optional(travels ? *tensor : host_of(*tensor)));
      }
      return list;
    }
    return value;
  }
  // An output that came without elements, and was given some.
  static void take_new_size(const at::Tensor& host, const at::Tensor& device) {
    if (host.sizes() == device.sizes()) return;
    c10::TensorImpl* const to = device.unsafeGetTensorImpl();
    to->set_storage_keep_dtype(as_simulated(host.storage()));
    to->set_sizes_and_strides(host.sizes(), host.strides());
  }
  at::Tensor device_of(const at::Tensor& host) {
    if (!host.defined()) return host;
    for (const auto& [of_host, of_device] : pairs_) {
      if (of_host.is_same(host)) return of_device;
      TORCH_CHECK(!of_host.storage().is_alias_of(host.storage()), operation_.schema().name(),
                  " returns a view, which the simulated device has no kernel of its own for");
    }
    return as_simulated(host);
  }
  c10::IValue to_device(const c10::IValue& value) {
    if (value.isTensor()) return device_of(value.toTensor());
    if (!value.isTensorList()) return value;
    c10::List<at::Tensor> list;
    for (const at::Tensor& tensor : value.toTensorVector()) list.push_back(device_of(tensor));
    return list;
  }

  const c10::OperatorHandle& operation_;
  std::vector<c10::IValue> converted_;
  std::vector<std::pair<at::Tensor, at::Tensor>> pairs_;
};

void run_on_host(const c10::OperatorHandle& operation, torch::jit::Stack* stack) {
  const std::string name = operation.schema().name();
  if (makes_host_wait(name)) count_wait(name.substr(name.find("::") + 2));
  HostCall(operation).run(stack);
}

at::Tensor empty(at::IntArrayRef sizes, std::optional<at::ScalarType> type,
                 std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>,
                 std::optional<at::MemoryFormat> format) {
  return at::Tensor(at::detail::empty_generic(sizes, &memory(false),
                                              c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                              c10::dtype_or_default(type), format));
}

at::Tensor empty_strided(at::IntArrayRef sizes, at::IntArrayRef strides,
                         std::optional<at::ScalarType> type, std::optional<at::Layout>,
                         std::optional<at::Device>, std::optional<bool>) {
  return at::Tensor(at::detail::empty_strided_generic(
      sizes, strides, &memory(false), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
      c10::dtype_or_default(type)));
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
  if (!is_simulated(from)) count_upload(from, non_blocking);
  if (!is_simulated(to) && !(non_blocking && to.is_pinned())) count_wait("copy to the host");
  as_host(to).copy_(as_host(from));
  return to;
}

at::Scalar local_scalar_dense(const at::Tensor& tensor) {
  count_wait("_local_scalar_dense");
  return as_host(tensor).item();
}

at::Tensor convolution(const at::Tensor& x, const at::Tensor& weight,
                       const std::optional<at::Tensor>& bias, at::IntArrayRef stride,
                       at::IntArrayRef padding, at::IntArrayRef dilation, bool is_transposed,
                       at::IntArrayRef output_padding, int64_t groups) {
  return as_simulated(at::convolution(as_host(x), as_host(weight),
                                      bias ? std::optional(as_host(*bias)) : std::nullopt, stride,
                                      padding, dilation, is_transposed, output_padding, groups));
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> convolution_backward(
    const at::Tensor& gradient, const at::Tensor& x, const at::Tensor& weight,
    at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, bool is_transposed,
    at::IntArrayRef output_padding, int64_t groups, std::array<bool, 3> wanted) {
  const auto [of_x, of_weight, of_bias] = at::convolution_backward(
      as_host(gradient), as_host(x), as_host(weight), at::IntArrayRef(weight.size(0)), stride,
      padding, dilation, is_transposed, output_padding, groups, wanted);
  const auto result = [](const at::Tensor& t) { return t.defined() ? as_simulated(t) : t; };
  return {result(of_x), result(of_weight), result(of_bias)};
}

// As between the CPU and a GPU: a module's parameters may move.
bool has_compatible_shallow_copy_type(const at::Tensor&, const at::Tensor&) { return true; }

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&run_on_host>());
}

// Autocast changes nothing here: the project's own layers ask it for the type to compute in.
TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, m) { m.fallback(torch::CppFunction::makeFallthrough()); }

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("as_strided", at::native::as_strided_tensorimpl);
  m.impl("view", at::native::view);
  m.impl("unfold", at::native::unfold);
  m.impl("_reshape_alias", at::native::_reshape_alias);
  m.impl("_copy_from", copy_from);
  m.impl("_has_compatible_shallow_copy_type", has_compatible_shallow_copy_type);
  m.impl("convolution_overrideable", convolution);
  m.impl("convolution_backward_overrideable", convolution_backward);
  m.impl("_local_scalar_dense", local_scalar_dense);
}

}  // namespace

at::Device simulated_device() { return {kKind, 0}; }

DeviceTraffic device_traffic() {
  const std::lock_guard lock(traffic_mutex);
  return all_traffic;
}

DeviceTraffic operator-(const DeviceTraffic& now, const DeviceTraffic& before) {
  DeviceTraffic since = now;
  since.waits -= before.waits;
  since.uploads -= before.uploads;
  since.pageable_uploads -= before.pageable_uploads;
  since.uploaded_bytes -= before.uploaded_bytes;
  since.reasons.erase(since.reasons.begin(), since.reasons.begin() + before.waits);
  return since;
}

std::string to_string(const DeviceTraffic& t) {
  std::ostringstream text;
  text << t.waits << " waits (";
  for (size_t i = 0; i < t.reasons.size(); ++i) text << (i == 0 ? "" : ", ") << t.reasons[i];
  text << "), " << t.uploads << " uploads (" << t.pageable_uploads << " pageable) of "
       << t.uploaded_bytes << " bytes";
  return text.str();
}

}  // namespace espalier
