"""The agency hub: wire server, engine, chain port, settler, watcher and programmes."""
