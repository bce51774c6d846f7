#pragma once

#include <chrono>
#include <string>

#include <nlohmann/json.hpp>

#include "comm/communicator.h"

namespace espalier {

// Collective. What each rank took to set a stage up, and the most memory that it held so far: the
// event "stage_set_up", with a list by rank; rank 0 logs the largest of both.
nlohmann::json set_up_event(Communicator& comm, const std::string& stage,
                            std::chrono::duration<double> taken);

}  // namespace espalier
