#include "launch/protocol/failure.h"

#include <filesystem>
#include <new>

#include <c10/util/Exception.h>

#include "comm/errors.h"
#include "data/errors.h"
#include "models/errors.h"
#include "trainer/errors.h"

namespace espalier {
namespace {

// LibTorch appends a stack trace to its messages, after the first line or two.
std::string first_lines(const std::string& text) {
  const auto end = text.find("\nException raised from");
  std::string line = text.substr(0, end);
  while (!line.empty() && line.back() == '\n') line.pop_back();
  return line;
}

constexpr size_t kShownPath = 120;  // bytes
constexpr const char* kMakeRoom =
    "see to that disk or make room on it, and start the same command again";

}  // namespace

FailureReport describe_failure(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const ConfigError& e) {
    return {FailureClass::kConfig, e.what(), ""};
  } catch (const DataError& e) {
    return {FailureClass::kData, e.what(), ""};
  } catch (const WeightsError& e) {
    return {FailureClass::kWeights, e.what(), ""};
  } catch (const NumericError& e) {
    return {FailureClass::kNumeric, e.what(), ""};
  } catch (const DoNotRequeueError& e) {
    return {FailureClass::kDoNotRequeue, e.what(), ""};
  } catch (const StorageError& e) {
    return {FailureClass::kStorage, e.what(), kMakeRoom};
  } catch (const std::filesystem::filesystem_error& e) {
    if (e.code() == std::errc::filename_too_long) {
      return {
          FailureClass::kConfig,
          "a path is too long for a file system: " + e.path1().string().substr(0, kShownPath) + "…",
          "choose a shorter one"};
    }
    return {FailureClass::kStorage, e.what(), kMakeRoom};
  } catch (const c10::OutOfMemoryError& e) {
    return {FailureClass::kOutOfMemory, first_lines(e.what_without_backtrace()),
            "make micro_batch_size smaller"};
  } catch (const std::bad_alloc&) {
    return {FailureClass::kOutOfMemory, "out of memory", "make micro_batch_size smaller"};
  } catch (const CommError& e) {
    return {FailureClass::kCommunication, e.what(),
            "another rank ended or hangs; its log says why"};
  } catch (const c10::Error& e) {
    return {FailureClass::kInternal, first_lines(e.what_without_backtrace()),
            "this is a bug; please report it with the log"};
  } catch (const std::exception& e) {
    return {FailureClass::kInternal, first_lines(e.what()), ""};
  } catch (...) {
    return {FailureClass::kInternal, "an unknown error", ""};
  }
}

}  // namespace espalier
