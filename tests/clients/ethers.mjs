// What a user of ethers 6 does and sees; the task comes on standard input, the report goes out.
import { readFileSync } from "node:fs";
import {
  Contract, ContractFactory, JsonRpcProvider, NonceManager, Wallet, WebSocketProvider, isError,
} from "ethers";

const task = JSON.parse(readFileSync(0, "utf8"));
const provider = new JsonRpcProvider(task.url, undefined, { polling: true, cacheTimeout: -1 });
provider.pollingInterval = 50;
const registrar = new NonceManager(new Wallet(task.registrar.key, provider));
const treasury = new NonceManager(new Wallet(task.treasury.key, provider));
const plain = new Wallet(task.treasury.key, provider);

async function refused(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error("it was not refused");
}

async function deployed(made, ...args) {
  const factory = new ContractFactory(made.abi, made.bytecode, registrar);
  const contract = await factory.deploy(...args);
  const receipt = await contract.deploymentTransaction().wait();
  return [contract.connect(treasury), receipt];
}

const [registry, created] = await deployed(task.registry, task.registrar.address);
const [credit] = await deployed(task.credit, await registry.getAddress());
const [probe] = await deployed(task.probe);
const [registryAt, creditAt] = [await registry.getAddress(), await credit.getAddress()];
const fromBlock = created.blockNumber;

// Heard while it happens: by polling, and by a subscription over a WebSocket.
function listen(through) {
  const heard = { blocks: [], minted: [] };
  through.on("block", (number) => heard.blocks.push(number));
  const contract = new Contract(creditAt, task.credit.abi, through);
  const ready = contract.on("Minted", (to, amount, reference, { log }) => heard.minted.push({
    args: [to, Number(amount), reference],
    transaction: log.transactionHash, block: log.blockNumber,
  }));
  return { heard, ready };
}
async function until(condition) {
  const end = Date.now() + 20_000;
  while (!condition()) {
    if (Date.now() > end) throw new Error("heard nothing");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
const polled = listen(provider);
const socket = new WebSocketProvider(task.ws);
const pushed = listen(socket);
await polled.ready;
await pushed.ready;
await provider.getBlockNumber();
await socket.send("eth_blockNumber", []); // a connection's requests are answered in order

const row = [task.treasury.address, 2, 1, 0, task.word, task.word];
await (await registry.connect(registrar).set_member(row)).wait();
const member = (await registry.member(task.treasury.address)).map(String);

const estimate = Number(await credit.mint.estimateGas(task.treasury.address, task.amount, task.word));
const mint = await (await credit.mint(task.treasury.address, task.amount, task.word)).wait();
const logs = await credit.queryFilter(credit.filters.Minted(task.treasury.address), fromBlock);

const again = [task.treasury.address, task.amount, task.word];
const call = await refused(credit.mint.staticCall(...again));
const estimating = await refused(credit.mint.estimateGas(...again));
const mining = await refused(
  (async () => (await credit.mint(...again, { gasLimit: 200_000 })).wait())(),
);
const named = new Contract(
  await probe.getAddress(), [...task.probe.abi, "error TooFew(uint256 have, uint256 want)"], treasury,
);
const custom = await refused(named.refuse_with_numbers.staticCall(3, 8));

const transfers = {};
let last;
for (const type of task.types) {
  const order = { to: task.stranger, value: 5, type };
  if (type === 4) {
    order.to = task.treasury.address;
    order.value = 0;
    order.authorizationList = [await plain.authorize({
      address: await probe.getAddress(), nonce: (await plain.getNonce()) + 1,
    })];
    order.data = named.interface.encodeFunctionData("note", [1, 2]);
    order.gasLimit = 300_000;
  }
  last = await (await treasury.sendTransaction(order)).wait();
  transfers[type] = { status: last.status, type: last.type, gas: Number(last.gasUsed) };
}
const code = await provider.getCode(task.treasury.address);

const balance = Number(await credit.balanceOf(task.treasury.address));
const fees = await provider.getFeeData();
const block = await provider.getBlock(mint.blockNumber);
const looked = await provider.getTransaction(mint.hash);

for (const { heard } of [polled, pushed]) {
  await until(() => heard.minted.length > 0 && heard.blocks.includes(last.blockNumber));
}
const heads = [];
for (const number of pushed.heard.blocks) {
  heads.push([number, (await socket.getBlock(number)).hash]);
}
await socket.destroy();
provider.destroy();

console.log(JSON.stringify({
  chain_id: Number((await new JsonRpcProvider(task.url).getNetwork()).chainId),
  registry: registryAt,
  credit: creditAt,
  created: { status: created.status, address: created.contractAddress, block: created.blockNumber },
  member,
  balance,
  estimate,
  mint: {
    status: mint.status, gas: Number(mint.gasUsed), block: mint.blockNumber, hash: mint.hash,
    logs: mint.logs.map((log) => credit.interface.parseLog(log).name),
  },
  logs: logs.map((log) => [log.args.to, Number(log.args.amount), log.args.funding_reference]),
  refused: {
    call: call.reason, estimate: estimating.reason,
    mined: isError(mining, "CALL_EXCEPTION") ? mining.receipt.status : String(mining),
  },
  custom: [custom.revert.name, ...custom.revert.args.map(Number)],
  transfers,
  code,
  fees: [Number(fees.gasPrice), Number(fees.maxFeePerGas), Number(block.baseFeePerGas)],
  block: { hash: block.hash, transactions: [...block.transactions] },
  looked: { from: looked.from, nonce: looked.nonce, block: looked.blockNumber },
  polled: polled.heard.minted,
  pushed: { heads, minted: pushed.heard.minted },
}));
process.exit(0);
