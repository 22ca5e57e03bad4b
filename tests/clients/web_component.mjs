// Runs the request and response code of the real web component against a running service, in both formats.
//
//     npm ci --prefix tests/clients
//     node tests/clients/web_component.mjs tests/clients/node_modules/ai-taxonomist http://127.0.0.1:8000 photo.jpg ...
//
// It prints what the component would show, and fails if that is an error or if the two formats differ.
import { strict as assert } from 'node:assert';
import { readFile } from 'node:fs/promises';
import { basename, resolve } from 'node:path';

const [folder, service, ...photographs] = process.argv.slice(2);
const utils = name => import(resolve(folder, 'dist/src/utils', `${name}.js`));
Object.defineProperty(globalThis, 'navigator', { value: { language: 'fr-FR' }, configurable: true });

const { identifyRequest, getGBIFDoi } = await utils('identifyRequest');
const { getSpeciesList } = await utils('getSpeciesList');
const { BackendFormat } = await utils('types');
const images = await Promise.all(
    photographs.map(async path => new File([await readFile(path)], basename(path), { type: 'image/jpeg' }))
);

const addresses = {
    [BackendFormat.C4C]: [service, `${service}/`],
    [BackendFormat.PLANTNET]: [`${service}/v2/identify/all`, `${service}/v2/identify/best`],
};
let shown = '';
for (const [format, urls] of Object.entries(addresses)) {
    for (const url of urls) {
        const answer = await identifyRequest(images, url, 'any key', format);
        assert.equal(typeof answer, 'object', answer);
        assert.ok(answer.results.length > 0);
        for (const result of answer.results) {
            const { score, taxonName, author, family, commonNames, gbifUrl } = result;
            assert.ok(taxonName && !JSON.stringify(result).includes('null') && score >= 0 && score <= 1);
            assert.ok(result.images.every(image => image.url.startsWith('http') && image.alt));
            console.log(`${format} ${Math.round(score * 100)} % ${taxonName} ${author} (${family}) ${commonNames} ${gbifUrl}`);
            result.images.forEach(image => console.log(`    ${image.url} ${image.alt}`));
        }
        const names = answer.results.slice(0, 10).map(result => result.taxonName).join(', ');
        shown ||= names;
        assert.equal(names, shown, 'the two formats give the same species');
    }
    console.log(`${format} DOI: ${await getGBIFDoi(service, format)}`);
}
assert.match(await getGBIFDoi(service, BackendFormat.C4C), /^https:\/\/doi\.org\/10\.\d+\//);
const { species, error } = await getSpeciesList(service);
assert.equal(error, null);
console.log(`species list: ${species.length}, such as ${species[0].name}, ${species[0].species_id}`);
const refused = await identifyRequest([new File(['no photograph'], 'a.txt')], service, '', BackendFormat.C4C);
console.log(`no photograph: ${refused}`);
assert.match(refused, /^Error: /);
