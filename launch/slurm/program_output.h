#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <vector>

namespace boost::asio {
class io_context;
}

namespace espalier {

using ProgramSaid = std::function<void(const std::string& output)>;

// Runs a short program and hands over what it wrote to stdout and stderr: all of it, or what came
// before the time was up, when it is killed. Nothing at all where it cannot be started. Does not
// block. Who reaps children, and what the program's exit status was, is no matter here.
void run_program(boost::asio::io_context& context, std::vector<std::string> arguments,
                 std::chrono::milliseconds patience, ProgramSaid done);

// The same, waited for.
std::string program_output(std::vector<std::string> arguments, std::chrono::milliseconds patience);

}  // namespace espalier
