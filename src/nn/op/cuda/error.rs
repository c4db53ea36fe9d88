//! Errors of CUDA's libraries as sentences.

use crate::nn::invalid;

/// An error of the driver in this crate's words.
pub(crate) fn failed(error: impl std::fmt::Debug) -> candle_core::Error {
    let text = format!("{error:?}");
    if says_out_of_memory(&text) {
        return invalid(OUT_OF_MEMORY);
    }
    invalid(format!("the GPU failed: {}", reason(&text)))
}

/// An error of candle's in this crate's words; any other as it is.
pub(crate) fn told(error: candle_core::Error) -> candle_core::Error {
    let text = error.to_string();
    match name_of(&text) {
        Some(_) if is_out_of_memory(&error) => invalid(OUT_OF_MEMORY),
        Some(_) => invalid(format!("the GPU failed: {}", reason(&text))),
        None => error,
    }
}

/// The name of an error of CUDA's libraries within a text.
pub(super) fn name_of(text: &str) -> Option<&str> {
    let begins = ["CUDA_ERROR_", "CUBLAS_STATUS_", "CUDNN_STATUS_"];
    let at = begins.iter().filter_map(|begin| text.find(begin)).min()?;
    let ends = |c: char| !c.is_ascii_uppercase() && !c.is_ascii_digit() && c != '_';
    let name = &text[at..];
    Some(&name[..name.find(ends).unwrap_or(name.len())])
}

/// What a library's error says, in lower case and without its wrapping; or the text as it is.
pub(super) fn reason(text: &str) -> String {
    let Some(name) = name_of(text) else {
        return text.to_owned();
    };
    let begins = ["CUDA_ERROR_", "CUBLAS_STATUS_", "CUDNN_STATUS_"];
    let short = begins.iter().find_map(|begin| name.strip_prefix(begin));
    let words = short.unwrap_or(name).to_lowercase().replace('_', " ");
    format!("{words} ({name})")
}

/// What is said when a device has no memory left.
const OUT_OF_MEMORY: &str = "the GPU is out of memory";

/// Whether an error says that a device has no memory left.
pub(crate) fn is_out_of_memory(error: &candle_core::Error) -> bool {
    says_out_of_memory(&error.to_string())
}

/// As the driver, cuBLAS and cuDNN 8 and 9 call it, or this file.
fn says_out_of_memory(text: &str) -> bool {
    let words = [
        OUT_OF_MEMORY,
        "OUT_OF_MEMORY",
        "ALLOC_FAILED",
        "ALLOCATION_FAILED",
    ];
    words.iter().any(|word| text.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_beyond_32_bits_are_refused() {
        assert!(countable(MOST_COUNTED).is_ok());
        let error = countable(MOST_COUNTED + 1).unwrap_err().to_string();
        assert!(error.contains("a smaller batch has fewer"), "{error}");
        const { assert!(MOST_BLOCKS * BLOCK <= 1 << 21 && SUMMING * BLOCK * 31 <= 1 << 21) };
    }

    #[test]
    fn errors_of_the_libraries_are_sentences() {
        let text =
            "DriverError(CUDA_ERROR_ILLEGAL_ADDRESS, \"an illegal memory access was encountered\")";
        assert_eq!(reason(text), "illegal address (CUDA_ERROR_ILLEGAL_ADDRESS)");
        assert_eq!(reason("no such thing"), "no such thing");
        let memory = invalid("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")");
        assert!(is_out_of_memory(&memory));
        assert_eq!(told(memory).to_string(), OUT_OF_MEMORY);
        for code in [
            "CUBLAS_STATUS_ALLOC_FAILED",
            "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
            "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        ] {
            let text = format!("CudnnError({code})");
            assert!(is_out_of_memory(&failed(&text)), "{code}");
            assert_eq!(told(invalid(text)).to_string(), OUT_OF_MEMORY);
        }
        assert_eq!(told(invalid("a shape")).to_string(), "a shape");
    }
}
