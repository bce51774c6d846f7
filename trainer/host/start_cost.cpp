#include "trainer/host/start_cost.h"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "trainer/host/collective_text.h"
#include "trainer/host/memory_use.h"

namespace espalier {

using nlohmann::json;

json set_up_event(Communicator& comm, const std::string& stage,
                  std::chrono::duration<double> taken) {
  const json mine = {{"seconds", taken.count()}, {"host_memory_bytes", peak_host_memory()}};
  json ranks = json::array();
  double seconds = 0;
  int64_t bytes = 0;
  for (const std::string& text : gather_text(comm, mine.dump())) {
    ranks.push_back(json::parse(text));
    seconds = std::max(seconds, ranks.back().at("seconds").get<double>());
    bytes = std::max(bytes, ranks.back().at("host_memory_bytes").get<int64_t>());
  }
  if (comm.rank() == 0) {
    spdlog::info("stage {} is set up: {:.1f} s, {} MiB of memory{}", stage, seconds, bytes >> 20,
                 comm.size() == 1 ? "" : " on the slowest and the largest rank");
  }
  return {{"event", "stage_set_up"}, {"stage", stage}, {"ranks", ranks}};
}

}  // namespace espalier
