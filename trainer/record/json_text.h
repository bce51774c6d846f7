#pragma once

#include <string>

#include <nlohmann/json.hpp>

namespace espalier {

// What is written to files and sent to peers. Texts come from everywhere (a damaged manifest, a
// peer, an error of the system): bytes that are no UTF-8 become U+FFFD, where dump() would throw.
inline std::string json_text(const nlohmann::json& value, int indent = -1) {
  return value.dump(indent, ' ', /*ensure_ascii=*/false, nlohmann::json::error_handler_t::replace);
}

}  // namespace espalier
