// node sdk_node.mjs BASE_URL TASK: one task through the OpenAI SDK for Node; prints JSON.
import OpenAI from "openai";

const [baseURL, task] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "What is 47 + 38?" }];
const parameters = {
  type: "object",
  properties: {
    parity: { type: "string", enum: ["odd", "even"] },
    large: { type: "boolean" },
  },
  required: ["parity", "large"],
  additionalProperties: false,
};
const common = { model: "demo", messages, temperature: 0 };
const tools = [{ type: "function", function: { name: "judge", parameters } }];

const tasks = {
  async chat() {
    const answer = await client.chat.completions.create(common);
    return { text: answer.choices[0].message.content, usage: answer.usage };
  },
  async stream() {
    const pieces = [];
    for await (const chunk of await client.chat.completions.create({ ...common, stream: true }))
      pieces.push(chunk.choices[0]?.delta?.content ?? "");
    return { text: pieces.join(""), pieces: pieces.length };
  },
  async tools() {
    const asked = { ...common, tools, tool_choice: "required", parallel_tool_calls: false };
    const answer = await client.chat.completions.create(asked);
    const streamed = await client.chat.completions.stream(asked).finalChatCompletion();
    return [answer, streamed].map((one) => {
      const { name, arguments: text } = one.choices[0].message.tool_calls[0].function;
      return { name, arguments: JSON.parse(text) };
    });
  },
  async schema() {
    const json_schema = { name: "verdict", strict: true, schema: parameters };
    const response_format = { type: "json_schema", json_schema };
    const answer = await client.chat.completions.create({ ...common, response_format });
    return JSON.parse(answer.choices[0].message.content);
  },
  async embeddings() {
    const input = ["The sun is a star.", "A cat sleeps."];
    const answer = await client.embeddings.create({ model: "demo", input });
    return answer.data.map((one) => one.embedding.length);
  },
  async responses() {
    const asked = { model: "demo", input: messages[0].content, temperature: 0 };
    const answer = await client.responses.create(asked);
    const kinds = [];
    let text = "";
    for await (const event of await client.responses.create({ ...asked, stream: true })) {
      kinds.push(event.type);
      if (event.type === "response.output_text.delta") text += event.delta;
    }
    return { text: answer.output_text, streamed: text, first: kinds[0], last: kinds.at(-1) };
  },
  async error() {
    try {
      await client.chat.completions.create({ ...common, temperature: -1 });
    } catch (error) {
      return { kind: error.constructor.name, status: error.status, param: error.param };
    }
  },
};

console.log(JSON.stringify(await tasks[task]()));
