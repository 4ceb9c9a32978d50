// Everything a program may use, except the xtensor views (<parsimony/xtensor.hpp>), which bring
// xtensor's headers with them.
#pragma once

#include <parsimony/claims.hpp>
#include <parsimony/completion.hpp>
#include <parsimony/config.hpp>
#include <parsimony/csv.hpp>
#include <parsimony/deep_linear.hpp>
#include <parsimony/error.hpp>
#include <parsimony/experiment.hpp>
#include <parsimony/figure.hpp>
#include <parsimony/files.hpp>
#include <parsimony/gradcheck.hpp>
#include <parsimony/linalg.hpp>
#include <parsimony/matrix_data.hpp>
#include <parsimony/metrics.hpp>
#include <parsimony/module.hpp>
#include <parsimony/npy.hpp>
#include <parsimony/ops.hpp>
#include <parsimony/optim.hpp>
#include <parsimony/ratings.hpp>
#include <parsimony/report.hpp>
#include <parsimony/rng.hpp>
#include <parsimony/run.hpp>
#include <parsimony/safetensors.hpp>
#include <parsimony/sparse.hpp>
#include <parsimony/strings.hpp>
#include <parsimony/tensor.hpp>
#include <parsimony/text_table.hpp>
#include <parsimony/text_tasks.hpp>
#include <parsimony/threads.hpp>
#include <parsimony/tokenizer.hpp>
#include <parsimony/variable.hpp>
#include <parsimony/version.hpp>
#include <parsimony/vocabulary.hpp>
