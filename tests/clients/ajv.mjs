// Ajv with its formats, as the TypeScript clients use it: `ajv.mjs PACKAGES < [{name, schema, value?, patterns}]`.
// Prints one JSON object: {name: "ok" or what is wrong}, once for each dialect.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const require = createRequire(`${process.argv[2]}/`);
const addFormats = require('ajv-formats').default;
const dialects = { 'draft-07': require('ajv').default, '2020-12': require('ajv/dist/2020').default };
const cases = JSON.parse(readFileSync(0, 'utf8'));
const verdicts = {};

for (const [dialect, Ajv] of Object.entries(dialects)) {
  for (const { name, schema, value, patterns } of cases) {
    const warnings = [];
    const logger = { log() {}, warn: (...words) => warnings.push(words.join(' ')), error: (...words) => warnings.push(words.join(' ')) };
    const ajv = new Ajv({ strict: false, validateFormats: true, validateSchema: false, allErrors: true, logger });
    addFormats(ajv);
    let verdict = 'ok';
    try {
      for (const pattern of patterns) new RegExp(pattern, 'u');
      const validate = ajv.compile(schema);
      if (value !== undefined && !validate(value)) verdict = ajv.errorsText(validate.errors);
      else if (value !== undefined && warnings.length) verdict = warnings.join('; ');
    } catch (error) {
      verdict = `${error.name}: ${error.message}`;
    }
    verdicts[`${dialect} ${name}`] = verdict;
  }
}
console.log(JSON.stringify(verdicts));
