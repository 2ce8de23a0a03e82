//! Asks for URL/1, URL/2 and, by POST, URL/3, over one connection: `rustweb URL MARK`.

use std::error::Error;

use ureq::Agent;
use ureq::tls::TlsConfig;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().collect();
    let [_, url, mark] = &arguments[..] else { return Err("usage: rustweb URL MARK".into()) };
    let tls = TlsConfig::builder().disable_verification(true).build();
    let agent: Agent = Agent::config_builder().tls_config(tls).build().into();
    for page in 1..=2 {
        agent.get(format!("{url}/{page}")).call()?.body_mut().read_to_string()?;
    }
    agent.post(format!("{url}/3")).send(format!("body from {mark}"))?.body_mut().read_to_string()?;
    Ok(())
}
