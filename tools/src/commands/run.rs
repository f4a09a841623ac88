//! `castiron run`: text generation.

use std::error::Error;
use std::io::{Read, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use castiron_runtime::tasks::Pipeline;
use castiron_runtime::tasks::generate::{Finish, Generated, Request};
use castiron_runtime::text::{ChatMessage, ChatRequest, Date, EncodeOptions, Sampling, TokenStream};
use serde_json::json;

use super::arguments::Run;
use super::{Outcome, load};

/// Set by Ctrl-C.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

pub(super) fn run(arguments: &Run) -> Outcome {
    let mut pipeline = load::pipeline(&arguments.executed)?;
    let prompt = prompt(arguments, &pipeline)?;
    let request = request(arguments, &pipeline, prompt.len())?;
    let generated = if arguments.executed.json {
        stop_on_interrupt();
        let generated = pipeline
            .generate(std::slice::from_ref(&prompt), &request, &mut |_| !INTERRUPTED.load(Ordering::Relaxed))?;
        // An encoder–decoder's text does not go on from the prompt, but from its own start.
        let begun = if request.start.is_empty() { &prompt } else { &request.start };
        print_json(&pipeline, begun, &generated)?;
        generated
    } else if arguments.tokens.is_some() {
        stop_on_interrupt();
        let show = |token: u32| print(&format!("{token} ")).is_ok() && !INTERRUPTED.load(Ordering::Relaxed);
        let generated = pipeline.generate(&[prompt], &request, &mut |new| show(new.token))?;
        println!();
        generated
    } else {
        stream(&mut pipeline, prompt, &request)?
    };
    if arguments.stats {
        eprintln!("{}", speed(&generated));
    }
    Ok(ExitCode::SUCCESS)
}

/// Generates and prints text as it comes. Ctrl-C ends the text.
pub(super) fn stream(
    pipeline: &mut Pipeline,
    prompt: Vec<u32>,
    request: &Request,
) -> Result<Generated, Box<dyn Error>> {
    stop_on_interrupt();
    let text = Arc::clone(pipeline.text());
    let mut stream = TokenStream::new(text.tokenizer()?, true);
    let mut failure: Option<Box<dyn Error>> = None;
    let mut on_token = |token: u32| {
        let printed = stream.push(token).map_err(Into::into).and_then(print);
        failure = printed.err();
        failure.is_none() && !INTERRUPTED.load(Ordering::Relaxed)
    };
    let generated = pipeline.generate(&[prompt], request, &mut |new| on_token(new.token))?;
    if let Some(failure) = failure {
        return Err(failure);
    }
    print(stream.finish()?)?;
    println!();
    Ok(generated)
}

/// Prints text at once.
fn print(text: &str) -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout();
    Ok(out.write_all(text.as_bytes()).and_then(|()| out.flush())?)
}

/// Tokens of a prompt, in the model's chat template if it has one.
pub(super) fn chat(pipeline: &Pipeline, system: Option<&str>, prompt: &str) -> Result<Vec<u32>, Box<dyn Error>> {
    let text = pipeline.text();
    let system = system.map(|system| ChatMessage::new("system", system));
    let messages: Vec<ChatMessage> = system.into_iter().chain([ChatMessage::new("user", prompt)]).collect();
    let request = ChatRequest { add_generation_prompt: true, now: Some(today()), ..ChatRequest::default() };
    let rendered = text.chat_template()?.render(&messages, &request)?;
    Ok(text.tokenizer()?.encode(&rendered, EncodeOptions::plain())?.ids)
}

/// Now, for templates that say the date.
fn today() -> Date {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Date::from_unix(since.as_secs() as i64)
}

/// Tokens per second of a generation.
pub(super) fn speed(generated: &Generated) -> String {
    let rate = generated.steps as f64 / generated.token_time.as_secs_f64().max(1e-9);
    let prompt = generated.prompt_time.as_secs_f64() * 1e3;
    format!("first token after {prompt:.0} ms, then {rate:.1} tokens per second")
}

fn prompt(arguments: &Run, pipeline: &Pipeline) -> Result<Vec<u32>, Box<dyn Error>> {
    if let Some(tokens) = &arguments.tokens {
        return Ok(tokens.clone());
    }
    let mut prompt = arguments.prompt.clone().unwrap_or_default();
    if prompt == "-" {
        prompt.clear();
        std::io::stdin().read_to_string(&mut prompt)?;
    }
    let has_template = pipeline.text().aside().chat_template.is_some();
    if has_template && !arguments.raw {
        return chat(pipeline, arguments.system.as_deref(), &prompt);
    }
    if arguments.system.is_some() {
        return Err("the model has no chat template, so that it takes no system message".into());
    }
    Ok(pipeline.text().tokenizer()?.encode(&prompt, EncodeOptions::default())?.ids)
}

/// How many tokens, where neither the command line nor the model says so.
const NEW_TOKENS: usize = 256;

fn request(arguments: &Run, pipeline: &Pipeline, prompt: usize) -> Result<Request, Box<dyn Error>> {
    let mut request = Request::of_model(pipeline.description(), NEW_TOKENS);
    let given = if request.start.is_empty() { prompt } else { request.start.len() };
    let of_model = pipeline.description().generation.new_tokens_after(given);
    request.max_new_tokens = arguments.max_new_tokens.or(of_model).unwrap_or(NEW_TOKENS);
    if let Some(least) = arguments.min_new_tokens {
        request.min_new_tokens = least;
        request.rules.min_length = 0;
    }
    if let Some(token) = &arguments.forced_bos {
        request.rules.forced_bos = Some(token_number(pipeline, token)?);
    }
    let draws = arguments.temperature.is_some() || arguments.top_k.is_some() || arguments.top_p.is_some();
    let sampling = &mut request.sampling;
    if arguments.greedy {
        *sampling = Sampling { repetition_penalty: sampling.repetition_penalty, ..Sampling::GREEDY };
    } else if draws && sampling.is_greedy() {
        sampling.temperature = 1.0;
    }
    sampling.temperature = arguments.temperature.unwrap_or(sampling.temperature);
    sampling.top_k = arguments.top_k.unwrap_or(sampling.top_k);
    sampling.top_p = arguments.top_p.unwrap_or(sampling.top_p);
    sampling.repetition_penalty = arguments.repetition_penalty.unwrap_or(sampling.repetition_penalty);
    request.seed = arguments.seed;
    Ok(request)
}

/// A token that is given by its number or its text.
fn token_number(pipeline: &Pipeline, token: &str) -> Result<u32, Box<dyn Error>> {
    if let Ok(number) = token.parse() {
        return Ok(number);
    }
    let number = pipeline.text().tokenizer()?.token_id(token);
    number.ok_or_else(|| format!("the tokenizer has no token {token:?}").into())
}

fn print_json(pipeline: &Pipeline, begun: &[u32], generated: &Generated) -> Result<(), Box<dyn Error>> {
    let row = &generated.rows[0];
    let text = match pipeline.text().tokenizer() {
        Ok(tokenizer) => Some(tokenizer.decode(&row.tokens, true)?),
        Err(_) => None,
    };
    let finish = match row.finish {
        Finish::End => "end",
        Finish::Length => "length",
        Finish::Stopped => "stopped",
    };
    let all = [begun, row.tokens.as_slice()].concat();
    let object = json!({
        "tokens": all,
        "new_tokens": row.tokens,
        "text": text,
        "finish": finish,
        "first_token_ms": generated.prompt_time.as_secs_f64() * 1e3,
        "tokens_per_s": generated.steps as f64 / generated.token_time.as_secs_f64().max(1e-9),
    });
    println!("{object}");
    Ok(())
}

/// Makes Ctrl-C end the text; a second one ends the process.
fn stop_on_interrupt() {
    // A handler that cannot be set leaves the system's own, which ends the process.
    let _ = ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    });
}
