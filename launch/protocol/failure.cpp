#include "launch/protocol/failure.h"

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

}  // namespace

FailureReport describe_failure(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const ConfigError& e) {
    return {kExitUsage, "config", e.what(), ""};
  } catch (const DataError& e) {
    return {kExitUsage, "data", e.what(), ""};
  } catch (const WeightsError& e) {
    return {kExitUsage, "weights", e.what(), ""};
  } catch (const DoNotRequeueError& e) {
    return {kExitDoNotRequeue, "do_not_requeue", e.what(), ""};
  } catch (const c10::OutOfMemoryError& e) {
    return {kExitDoNotRequeue, "out_of_memory", first_lines(e.what_without_backtrace()),
            "make micro_batch_size smaller"};
  } catch (const std::bad_alloc&) {
    return {kExitDoNotRequeue, "out_of_memory", "out of memory", "make micro_batch_size smaller"};
  } catch (const CommError& e) {
    return {kExitInternal, "communication", e.what(),
            "another rank ended or hangs; its log says why"};
  } catch (const c10::Error& e) {
    return {kExitInternal, "internal", first_lines(e.what_without_backtrace()),
            "this is a bug; please report it with the log"};
  } catch (const std::exception& e) {
    return {kExitInternal, "internal", first_lines(e.what()), ""};
  } catch (...) {
    return {kExitInternal, "internal", "an unknown error", ""};
  }
}

}  // namespace espalier
