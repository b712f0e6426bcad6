// What users of ethers and viem pay where gas has a price: the clients choose the fees themselves.
import { readFileSync } from "node:fs";
import { JsonRpcProvider, NonceManager, Wallet } from "ethers";
import { createPublicClient, createWalletClient, defineChain, http } from "viem";
import { privateKeyToAccount } from "viem/accounts";

const task = JSON.parse(readFileSync(0, "utf8"));
const order = { to: task.to, value: 5n };

const provider = new JsonRpcProvider(task.url, task.chain_id, { staticNetwork: true });
const wallet = new NonceManager(new Wallet(task.ethers, provider));
// A full block makes the next one dearer: this creation code is no instruction and burns all gas.
const burn = () => provider.send(
  "eth_sendTransaction", [{ from: task.burner, data: "0xfe", gas: "0x3938700" }],
);
const ethers = [];
await burn();
for (const type of [2, 0]) {
  const receipt = await (await wallet.sendTransaction({ ...order, type })).wait();
  ethers.push(receipt.hash);
}

const chain = defineChain({
  id: task.chain_id, name: "devnet", nativeCurrency: { name: "Ether", symbol: "ETH", decimals: 18 },
  rpcUrls: { default: { http: [task.url] } },
});
const transport = http(task.url);
const reader = createPublicClient({ chain, transport, pollingInterval: 50 });
const sender = createWalletClient({ chain, transport, account: privateKeyToAccount(task.viem) });
const viem = [];
await burn();
for (const type of ["eip1559", "legacy"]) {
  const hash = await sender.sendTransaction({ ...order, type });
  await reader.waitForTransactionReceipt({ hash });
  viem.push(hash);
}

provider.destroy();
console.log(JSON.stringify({ ethers, viem }));
process.exit(0);
