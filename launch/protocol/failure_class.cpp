#include "launch/protocol/failure_class.h"

#include <algorithm>
#include <iterator>

namespace espalier {
namespace {

struct Row {
  FailureClass failure;
  std::string_view name;
  int exit_code;
  bool is_relaunch_of_use;
};

constexpr Row kRows[] = {
    {FailureClass::kConfig, "config", kExitUsage, false},
    {FailureClass::kData, "data", kExitUsage, false},
    {FailureClass::kWeights, "weights", kExitUsage, false},
    {FailureClass::kOutOfMemory, "out_of_memory", kExitDoNotRequeue, false},
    {FailureClass::kNumeric, "numeric", kExitDoNotRequeue, false},
    {FailureClass::kDoNotRequeue, "do_not_requeue", kExitDoNotRequeue, false},
    {FailureClass::kStorage, "storage", kExitInternal, true},
    {FailureClass::kCommunication, "communication", kExitInternal, true},
    {FailureClass::kInternal, "internal", kExitInternal, true},
    {FailureClass::kCrash, "crash", kExitInternal, true},
    {FailureClass::kHang, "hang", kExitInternal, true},
};

constexpr bool is_in_order() {
  for (size_t i = 0; i < std::size(kRows); ++i) {
    if (static_cast<size_t>(kRows[i].failure) != i) return false;
  }
  return true;
}
static_assert(is_in_order(), "one row for each class, in the order of the enum");

const Row& row_of(FailureClass failure) { return kRows[static_cast<size_t>(failure)]; }

}  // namespace

std::string_view name_of(FailureClass failure) { return row_of(failure).name; }

std::optional<FailureClass> parse_failure_class(std::string_view name) {
  const auto* row = std::find_if(std::begin(kRows), std::end(kRows),
                                 [&](const Row& candidate) { return candidate.name == name; });
  return row == std::end(kRows) ? std::nullopt : std::optional(row->failure);
}

int exit_code_of(FailureClass failure) { return row_of(failure).exit_code; }

bool is_relaunch_of_use(FailureClass failure) { return row_of(failure).is_relaunch_of_use; }

bool is_relaunch_of_use_after(int exit_code) {
  return exit_code != kExitUsage && exit_code != kExitDoNotRequeue;
}

std::string explain_exit_codes() {
  return "Exit codes: " + std::to_string(kExitDone) + " done, " + std::to_string(kExitUsage) +
         " usage, config or data, " + std::to_string(kExitInternal) + " internal, " +
         std::to_string(kExitStopped) + " stopped with a checkpoint,\n" +
         std::to_string(kExitDoNotRequeue) + " do not start again.";
}

}  // namespace espalier
